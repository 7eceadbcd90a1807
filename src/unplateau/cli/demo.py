"""``unplateau demo``: the whole story on rendered images."""

from __future__ import annotations

from pathlib import Path

from unplateau.cli.types import Folder, Settings


def demo(
    *,
    out: Folder = Path("runs/demo"),
    seeds: int = 2,
    first_seed: int = 0,
    workers: int = 2,
    set_: Settings = (),
) -> int:
    """Trains the demo plainly and with four strategies, then prints what each one saved.

    Images of one object in a room; a prompt hides whether its size or its shape decides the label. 1,500 steps a run,
    one thread each. Writes report.html and summary.json; the same command again resumes, or skips what is done.

    Args:
        out: folder for run directories, report.html and summary.json
        seeds: number of seeds for each strategy
        first_seed: the lowest seed; the others follow it
        workers: runs at a time, one thread each
        set_: change one key of the spec in all runs, e.g. train.steps=300 for a quicker look
    """
    from unplateau.cli.given import given_spec, seeds_from  # noqa: PLC0415 (torch)
    from unplateau.cli.many import run_all  # noqa: PLC0415
    from unplateau.cli.story import tell_story  # noqa: PLC0415
    from unplateau.recipes import demo_strategies  # noqa: PLC0415

    wanted = seeds_from(first_seed, seeds)
    plain = given_spec("demo", set_)
    specs = [plain.with_strategy(strategy).with_seed(seed) for seed in wanted for strategy in demo_strategies()]
    records, code = run_all(specs, out=out, workers=workers, threads=1, device="auto")
    if records:
        tell_story([record.path for record in records], out)
    return code
