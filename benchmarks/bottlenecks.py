"""Is ``unplateau diagnose`` right? Runs that lack one thing on purpose, on seeds that its lines were not drawn on.

    python benchmarks/bottlenecks.py [--out runs/bottlenecks] [--only words recall] [--workers 2]

Every task is trained with ``unplateau`` and without each of its four terms in turn. Where the whole leaves the plateau
and the same seed without a term stays on it to the end, what that term asks for is what the run waits for, and nobody
needs to be believed for it. ``diagnose`` is then asked of the finished model. What was found is kept in
benchmarks/results/bottlenecks.jsonl, from which ``benchmarks/cards.py`` makes the tables of its card.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from missing import train_missing
from pages import markdown
from pydantic import TypeAdapter

import unplateau as up
from unplateau.probe.diagnose import diagnose
from unplateau.store import RunRecord
from unplateau.strategies.base import Part
from unplateau.studies.accounts import THINGS
from unplateau.studies.base import Planned, Row, by_cell, escapes, write_study
from unplateau.studies.tasks import TASKS
from unplateau.train.checkpoint import load_model

RAW = Path(__file__).parent / "results" / "bottlenecks.jsonl"
SEEDS, STEPS = (110, 111, 112), 500
INITS = ("scaled", "gpt2")
TERMS: Mapping[str, Part] = {**THINGS, "kept labels": up.KeepLoss()}
NOTHING = "nothing"
"""What a run lacks that is asked for all of them."""


@dataclass(frozen=True)
class Asked(Row):
    """A run, and what ``diagnose`` says at the end that it waits for, the first thing first.

    ``setting``: task and initialisation. ``cell``: what the run was not asked for.
    """

    waits_for: tuple[str, ...] = ()


def plan(task: str, init: str) -> Iterator[Planned]:
    """Runs of one task, seed by seed."""
    plain = TASKS[task]()
    spec = plain.with_settings({"train.steps": STEPS, "train.probe_every": 0, "model.init": init})
    spec = spec.model_copy(update={"recipe": f"bottlenecks-{task}-{init}"})
    for seed in SEEDS:
        for lacks in (NOTHING, *TERMS):
            asked = up.Strategy(*(term for thing, term in TERMS.items() if thing != lacks))
            yield Planned(f"{task}, {init}", lacks, spec.with_strategy(asked).with_seed(seed))


def train(task: str, init: str, out: Path, workers: int) -> None:
    """Whatever has no row yet."""
    rows = kept()
    new = [asked(planned, run) for planned, run in train_missing(plan(task, init), rows, out=out, workers=workers)]
    write_study(RAW, [*rows, *new])
    print(f"{task}, {init}: {len(new)} runs", flush=True)


def asked(planned: Planned, record: RunRecord) -> Asked:
    """What is kept of a finished run."""
    spec, model = load_model(record.path)
    return replace(Asked.of(planned, record), waits_for=diagnose(model, spec.task).waits_for)


_row: TypeAdapter[Asked] = TypeAdapter(Asked)


def kept() -> list[Asked]:
    """The rows so far."""
    return [_row.validate_json(line) for line in RAW.read_bytes().splitlines()] if RAW.exists() else []


def on_purpose(rows: Sequence[Asked]) -> list[Asked]:
    """Runs that stay on a plateau which the same seed leaves when nothing is lacking."""
    left = {(row.setting, row.seed) for row in rows if row.cell == NOTHING and row.escape is not None}
    return [row for row in rows if row.cell != NOTHING and row.escape is None and (row.setting, row.seed) in left]


def answers(rows: Sequence[Asked]) -> str:
    """What was named of the runs made on purpose, by what they lack."""
    made = on_purpose(rows)
    lines = [["lacking", "runs", "named first", "named later", "don't know", "only others named"]]
    lines += [counted(thing, [row for row in made if row.cell == thing]) for thing in TERMS]
    return markdown([*lines, counted("together", made)])


class Answer(Protocol):
    """What a model lacks, and what is said of it."""

    @property
    def cell(self) -> str:
        """What it lacks."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        """What it is said to wait for, the first thing first."""


def counted(name: str, rows: Sequence[Answer]) -> list[str]:
    """How many answers there are, and how many are right, late, missing and wrong."""
    first = sum(row.waits_for[:1] == (row.cell,) for row in rows)
    named = sum(row.cell in row.waits_for for row in rows)
    silent = sum(not row.waits_for for row in rows)
    return [name, *map(str, (len(rows), first, named - first, silent, len(rows) - named - silent))]


def ends(rows: Sequence[Asked]) -> str:
    """Median step of the escape of each setting, without each term."""
    lines = [["task, initialisation", "all four", *(f"without {thing}" for thing in TERMS)]]
    for setting, cells in by_cell(rows, beside=NOTHING).items():
        lines.append([setting, *(escapes(cells[lacks]) for lacks in (NOTHING, *TERMS))])
    return markdown(lines)


TABLES = {"answers": answers, "escapes": ends}
"""Of its card, by the part of the mark."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bottlenecks"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="these tasks")
    parser.add_argument("--inits", nargs="+", choices=INITS, default=INITS, help="these initialisations")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, with one thread each")
    given = parser.parse_args()
    for init in given.inits:
        for task in given.only:
            train(task, init, given.out, given.workers)


if __name__ == "__main__":
    main()
