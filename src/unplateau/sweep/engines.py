"""The engines by name. All do the same with a list of specs; how far a run is they learn from its directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unplateau.errors import SpecError, suggest
from unplateau.sweep.launch import Engine, local
from unplateau.sweep.ray_engine import RayEngine
from unplateau.sweep.slurm_engine import SlurmEngine

ENGINES = ("local", "ray", "slurm")


def engine_named(
    name: str, *, out: Path, address: str | None = None, gpus: float = 0.0, options: Mapping[str, Any] | None = None
) -> Engine:
    """The engine of this name. Raises SpecError if there is none, or for something that it does not know."""
    options = dict(options or {})
    if name not in ENGINES:
        raise SpecError(f"--engine: unknown engine '{name}'{suggest(name, ENGINES)}")
    if gpus < 0:
        raise SpecError(f"--gpus: at least 0 (got {gpus:g})")
    if address is not None and name != "ray":
        raise SpecError("--address: only with --engine ray")
    if name == "slurm":
        return SlurmEngine(out, gpus, options)
    if name == "ray":
        retries = options.pop("retries", 2)
        if options or not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise SpecError("--option: Ray knows retries alone, a number from 0 on, such as retries=3")
        return RayEngine(address, gpus, retries)
    if gpus or options:
        raise SpecError(f"{'--gpus' if gpus else '--option'}: only with --engine ray or slurm")
    return local
