"""``unplateau reproduce``: a published or documented result again, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from unplateau.cli.types import Folder, Settings

Card = Annotated[Literal["language"], Positional, arg(metavar="CARD")]


def reproduce(
    card: Card,
    /,
    *,
    scale: Literal["cpu", "paper"] = "cpu",
    only: Literal["words", "word-selection", "labelled-text"] | None = None,
    out: Folder = Path("runs/language"),
    seeds: int | None = None,
    first_seed: int = 100,
    workers: int = 2,
    set_: Settings = (),
) -> int:
    """Trains every recipe of a card plainly and with four strategies, and prints what each one saved.

    language: words whose topic or length decides the label, words to be selected by their topic, and sentences whose
    genre decides the label. Writes report.html and summary.json for each recipe; the same command again resumes, or
    skips what is done.

    Args:
        card: language
        scale: cpu (the two recipes on words, which need no download, and 3 seeds: a quarter of an hour on two cores)
            or paper (all three, 10 seeds, four times the steps: hours)
        only: one recipe; labelled-text needs `unplateau data get brown`
        out: folder for run directories and reports, one for each recipe
        seeds: number of seeds for each strategy; default: as the scale says
        first_seed: the lowest seed; the others follow it
        workers: runs at a time, one thread each
        set_: change one key of the spec in all runs, e.g. train.steps=500 for a quicker look
    """
    from unplateau.cli.given import seeds_from, with_given  # noqa: PLC0415 (torch)
    from unplateau.cli.many import run_all  # noqa: PLC0415
    from unplateau.cli.story import tell_story  # noqa: PLC0415
    from unplateau.recipes import language, language_strategies  # noqa: PLC0415

    del card
    wanted = seeds_from(first_seed, seeds if seeds is not None else (3 if scale == "cpu" else 10))
    codes = []
    for plain in [
        with_given(recipe, set_) for recipe in language(scale, only)
    ]:  # all are valid before the first one runs
        specs = [plain.with_strategy(one).with_seed(seed) for seed in wanted for one in language_strategies()]
        records, code = run_all(specs, out=out, workers=workers, threads=1, device="auto")
        if records:
            print(f"\n{plain.recipe}\n")
            tell_story([record.path for record in records], out / plain.recipe)
        codes.append(code)
    return max(codes)
