"""The engines by name. All do the same with a list of specs; how far a run is they learn from its directory.

``stack`` is none: it starts no process, and trains in this one (:func:`~unplateau.sweep.stacked.train_many`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unplateau.errors import SpecError, suggest
from unplateau.sweep.launch import Engine, local
from unplateau.sweep.ray_engine import RayEngine
from unplateau.sweep.slurm_engine import SlurmEngine

STACK = "stack"
ENGINES = ("local", STACK, "ray", "slurm")


def engine_named(
    name: str, *, out: Path, address: str | None = None, gpus: float = 0.0, options: Mapping[str, Any] | None = None
) -> Engine | None:
    """The engine of this name, None for ``stack``.

    Raises SpecError if there is none, or for something that it does not know.
    """
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
    return None if name == STACK else local
