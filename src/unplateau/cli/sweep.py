"""``unplateau sweep``: many runs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from unplateau.cli.types import Folder, Given, Settings
from unplateau.errors import SpecError, suggest

ENGINES = ("local",)
Axes = Annotated[tuple[str, ...], arg(metavar="A.B=V1,V2"), UseAppendAction]


def sweep(
    spec: Given,
    /,
    *,
    axis: Axes = (),
    set_: Settings = (),
    seeds: int = 1,
    first_seed: int = 0,
    engine: str = "local",
    workers: int = 2,
    threads: int = 1,
    device: str = "auto",
    out: Folder = Path("runs"),
) -> int:
    """Trains every combination of the axes' values, times seeds, several runs at a time.

    The same command again skips what is finished and resumes what is not. When a run fails the others go on.

    Args:
        spec: name of a recipe (demo, digits), or a .yaml or .json file with the keys of a run
        axis: a key of the spec and its values, e.g. strategy=plain,mixed or train.lr=1e-3,1e-2
        set_: change one key of the spec in all runs, e.g. train.steps=300
        seeds: number of seeds for each combination
        first_seed: the lowest seed; the others follow it
        engine: local (processes on this machine)
        workers: runs at a time
        threads: CPU threads of each run
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 ...
        out: folder that run directories are made in
    """
    if engine not in ENGINES:
        raise SpecError(f"--engine: '{engine}' is not available in this version{suggest(engine, ENGINES)}")
    from unplateau.cli.given import given_spec, seeds_from  # noqa: PLC0415 (torch)
    from unplateau.cli.ls import print_runs  # noqa: PLC0415
    from unplateau.cli.many import run_all  # noqa: PLC0415
    from unplateau.train.spec import expand, read_axis  # noqa: PLC0415

    specs = expand(given_spec(spec, set_), [read_axis(text) for text in axis], seeds_from(first_seed, seeds))
    records, code = run_all(specs, out=out, workers=workers, threads=threads, device=device)
    print_runs([record.path for record in records])
    return code
