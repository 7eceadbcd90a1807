"""The command ``reproduce``: what a card describes, trained from nothing, and what it has shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from unplateau.cli.arguments import Folder, Settings, refuse_unwritable
from unplateau.cli.console import print_table
from unplateau.cli.running import run_all, run_experiments, run_stacked, seeds_from, with_given
from unplateau.damage import readable
from unplateau.errors import DataError, SpecError

if TYPE_CHECKING:
    from unplateau.store import RunRecord
    from unplateau.studies import base as studies

WORKERS = 2
"""Runs at a time, unless told otherwise."""
Study = Literal["crossing", "controls", "transplant", "amplify", "drowned", "prediction"]
Figure = Literal["figure-1b", "figure-3", "figure-4", "figure-5a", "figure-5b", "figure-5c"]
Card = Literal["language", Study, Figure]


def reproduce(  # noqa: PLR0913 (an option each)
    card: Annotated[Card, Positional, arg(metavar="CARD")],
    /,
    *,
    scale: Literal["cpu", "paper"] = "cpu",
    only: Annotated[tuple[str, ...], arg(metavar="PART"), UseAppendAction] = (),
    results: Annotated[Path | None, arg(metavar="FILE")] = None,
    out: Folder | None = None,
    seeds: int | None = None,
    first_seed: int = 100,
    workers: int | None = None,
    engine: Literal["local", "stack"] = "local",
    set_: Settings = (),
    force: bool = False,
) -> int:
    """Trains all that a card describes, and prints what it has shown; the same command again resumes, or skips.

    Runs whose rows are in the file of results already are skipped too: a study can be done in pieces, on any machine.

    language: words whose topic or length decides the label, words to be selected by their topic, and sentences whose
    genre decides the label; plainly and with four strategies. Writes report.html and summary.json for each recipe.

    crossing: items that stand out, labels that are bound, queries that look, each asked for or not, on nine tasks, with
    shallow and deep models under two initialisations. Prints which account of plateaus held. Writes crossing.jsonl.

    controls: strategies on four tasks beside what they should not work without. Prints which predictions held. Writes
    controls.jsonl.

    transplant: modules of runs that have escaped, in runs on their plateau, and back. Prints as crossing does. Writes
    transplant.jsonl.

    amplify: hidden factors made to stand out by known amounts. Prints dose and response. Writes amplify.jsonl.

    drowned: all three asked for, with labels that are kept or larger, where they are small. Prints which predictions
    held. Writes drowned.jsonl.

    prediction: which score says how much of a plateau is left, on the runs of crossing. Writes prediction.jsonl.

    figure-1b, -3, -4, -5a, -5b, -5c: those of the paper (Fu et al. 2024). Prints of each claim whether the runs agree.

    Args:
        card: language, crossing, controls, transplant, amplify, drowned, prediction, figure-1b, figure-3, figure-4,
            figure-5a, figure-5b or figure-5c
        scale: cpu (language: the two recipes on words, which need no download, and 3 seeds, a quarter of an hour on two
            cores; figures: 3 seeds, half an hour at most; the others: 5 seeds, hours) or paper
            (language: all three, 10 seeds, four times the steps; figures: the paper's sizes; the others: four times
            the steps)
        only: one recipe of language (labelled-text needs `unplateau data get brown`), or some tasks of the others
        results: train nothing, and say what the runs in such a file have shown
        out: folder for run directories and results; default: runs/CARD, runs/crossing for prediction, runs/figures
        seeds: number of seeds for each strategy or cell; default: as the scale says
        first_seed: the lowest seed; the others follow it
        workers: runs at a time, one thread each; default: 2, or 32 of a stack
        engine: of studies. local, or stack: this process alone, in which runs of one shape compute as one, for a GPU
        set_: change one key of the spec in all runs, e.g. train.steps=500 for a quicker look, or on a GPU
            train.execution=graphed, which leaves the results of a study what they are
        force: also replace a report.html, summary.json or file of results that is there and not of an earlier call
    """
    if seeds is not None:
        seeds_from(first_seed, seeds)
    if results is None:
        refuse_unwritable(out or Path("runs"))
    from unplateau.recipes import experiments  # noqa: PLC0415 (torch)
    from unplateau.studies import STUDIES  # noqa: PLC0415

    study = STUDIES.get(card)
    out = out or Path("runs") / (study.folder if study else card)
    if study and results is not None:
        print_study(study, study.read(results, only))
        return 0
    if study:
        wanted = seeds_from(first_seed, seeds if seeds is not None else study.n_seeds)
        planned = study.plan(wanted, scale=scale, only=only)
        return run_study(study, planned, set_, out=out, workers=workers, engine=engine, force=force)
    if engine != "local":
        raise SpecError(f"{card}: --engine {engine} is for studies")
    workers = WORKERS if workers is None else workers
    if results is not None or len(only) > 1:
        raise SpecError(f"{card}: --results is for studies, and --only names one recipe")
    wanted = seeds_from(first_seed, seeds if seeds is not None else (3 if scale == "cpu" else 10))
    chosen = experiments(card, scale=scale, only=only[0] if only else None)
    return run_experiments(chosen, set_, wanted, out=out, workers=workers, apart=True, force=force)


def run_study(
    study: studies.Study,
    planned: Sequence[studies.Planned],
    settings: Sequence[str],
    *,
    out: Path,
    workers: int | None,
    engine: Literal["local", "stack"],
    force: bool,
) -> int:
    """Trains one setting after the other, keeps a row of each run, prints what they say, and returns the exit code.

    A run that has a row already is not trained again, so that a study can be done in pieces and on several machines.
    """
    from unplateau.outputs import demand_replaceable  # noqa: PLC0415 (numpy)
    from unplateau.studies.base import are_rows, read_study, write_study  # noqa: PLC0415 (torch)

    chosen = [replace(one, spec=with_given(one.spec, settings)) for one in planned]
    kept = out / f"{study.name}.jsonl"
    demand_replaceable(kept, are_rows, force=force)
    for spec in {one.spec.model_copy(update={"seed": 0}).digest(): one.spec for one in chosen}.values():
        spec.check()  # all of them, before the first run
    rows: list[studies.Row] = []
    with suppress(DataError):  # there is none yet, or something else, which --force replaces
        rows = read_study(kept)
    wanted = {one.spec.digest() for one in chosen}
    codes = [0]
    for setting in dict.fromkeys(one.setting for one in chosen):
        members = {one.spec.digest(): one for one in chosen if one.setting == setting}
        for digest in {row.spec for row in rows} & members.keys():
            del members[digest]
        if not members:
            continue
        print(f"{setting}: {len(members)} runs", flush=True)
        specs = [one.spec for one in members.values()]
        if engine == "stack":
            records, code = run_stacked(specs, out=out, most=workers)
        else:
            records, code = run_all(specs, out=out, workers=WORKERS if workers is None else workers)
        codes.append(code)
        rows += _rows_of(study, members, records)
        write_study(kept, rows, force=force)  # after each setting: a study takes hours
    print_study(study, [row for row in rows if row.spec in wanted])
    print(f"\nresults  {kept}")
    return max(codes)


def _rows_of(
    study: studies.Study, members: Mapping[str, studies.Planned], records: Sequence[RunRecord]
) -> list[studies.Row]:
    """The rows of all runs; a damaged one is named on standard error and left out."""
    by_path = {record.path: record for record in records}

    def rows(path: Path) -> list[studies.Row]:
        record = by_path[path]
        return [*study.rows(members[record.env["run"]["digest"]], record)]

    return [row for found in readable([*by_path], rows)[0] for row in found]


def print_study(study: studies.Study, rows: Sequence[studies.Row]) -> None:
    """What the rows have shown."""
    print(f"\n{study.question}")
    for table in study.judge(rows):
        print(f"\n{table.heading}\n")
        print_table(table.columns, table.lines)
        print(f"\n{table.note}" if table.note else "")
