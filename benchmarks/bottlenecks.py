"""Is ``unplateau diagnose`` right? Runs that lack one thing on purpose, on seeds that its lines were not drawn on.

    python benchmarks/bottlenecks.py [--out runs/bottlenecks] [--only words recall] [--seeds 113] [--workers 2]

Every task is trained with ``unplateau``, without each of its four terms in turn, and without the two that may do in
place of each other. Where the whole leaves the plateau and the same seed without a term stays on it to the end, what
that term asks for is what the run waits for, and nobody needs to be believed for it. ``diagnose`` is then asked of the
finished model. What was found is kept in benchmarks/results/bottlenecks.jsonl, from which ``benchmarks/cards.py`` makes
the tables of its card.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from missing import train_missing
from pages import markdown
from pydantic import TypeAdapter

import unplateau as up
from unplateau.plateau.progress import ESCAPE
from unplateau.probe.diagnose import diagnose
from unplateau.store import RunRecord
from unplateau.strategies.base import Part
from unplateau.studies.accounts import THINGS
from unplateau.studies.base import Planned, Row, by_cell, escapes, write_study
from unplateau.studies.tasks import TASKS
from unplateau.train.checkpoint import load_model

RAW = Path(__file__).parent / "results" / "bottlenecks.jsonl"
SEEDS, STEPS = range(110, 116), 500
NEW_SEED = 113
"""From here on: the order of kept labels and queries was settled after a look at the seeds before."""
INITS = ("scaled", "gpt2")
TERMS: Mapping[str, Part] = {**THINGS, "kept labels": up.KeepLoss()}
LACKING = ((), *((thing,) for thing in TERMS), ("kept labels", "queries"))
"""What a run is not asked for: either of the last two may be enough, so both are left out at once as well."""
NOTHING = "nothing"


@dataclass(frozen=True)
class Asked(Row):
    """A run, and what ``diagnose`` says at the end that it waits for, the first thing first.

    ``setting``: task and initialisation. ``cell``: what the run was not asked for.
    """

    waits_for: tuple[str, ...] = ()


def cell_of(lacking: Iterable[str]) -> str:
    """Of what a run lacks, the name of its cell."""
    return " and ".join(sorted(lacking)) or NOTHING


def plan(task: str, init: str, seeds: Iterable[int] = SEEDS) -> Iterator[Planned]:
    """Runs of one task, seed by seed."""
    plain = TASKS[task]()
    spec = plain.with_settings({"train.steps": STEPS, "train.probe_every": 0, "model.init": init})
    spec = spec.model_copy(update={"recipe": f"bottlenecks-{task}-{init}"})
    for seed in seeds:
        for lacking in LACKING:
            asked = up.Strategy(*(term for thing, term in TERMS.items() if thing not in lacking))
            yield Planned(f"{task}, {init}", cell_of(lacking), spec.with_strategy(asked).with_seed(seed))


def train(task: str, init: str, seeds: Iterable[int], out: Path, workers: int) -> None:
    """Whatever has no row yet."""
    rows = kept()
    new = [
        asked(planned, run) for planned, run in train_missing(plan(task, init, seeds), rows, out=out, workers=workers)
    ]
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
    """Runs that stay on a plateau, to their end, which the same seed leaves when nothing is lacking."""
    left = {(row.setting, row.seed) for row in rows if row.cell == NOTHING and row.escape is not None}
    stay = [row for row in rows if row.escape is None and row.progress < ESCAPE]
    return [row for row in stay if row.cell != NOTHING and (row.setting, row.seed) in left]


COLUMNS = ("lacking", "runs", "named first", "named later", "don't know", "only others named")


@dataclass(frozen=True)
class Answer:
    """``ends``: what would end the plateau of a model. ``waits_for``: what is said of it, the first thing first."""

    ends: frozenset[str]
    waits_for: tuple[str, ...]

    @property
    def is_first(self) -> bool:
        """Whether that is said first."""
        return not self.ends.isdisjoint(self.waits_for[:1])

    @property
    def is_named(self) -> bool:
        """Whether that is said at all."""
        return not self.ends.isdisjoint(self.waits_for)


def answer_of(row: Asked, rows: Sequence[Asked]) -> Answer:
    """What ends its plateau is what it lacks and the same seed leaves with; all of that, if nothing does alone."""
    left = {one.cell for one in rows if (one.setting, one.seed) == (row.setting, row.seed) and one.escape is not None}
    (lacking,) = (frozenset(one) for one in LACKING if cell_of(one) == row.cell)
    return Answer(frozenset(one for one in lacking if cell_of(lacking - {one}) in left) or lacking, row.waits_for)


def answers(rows: Sequence[Asked]) -> str:
    """What was named of the runs made on purpose, by what they lack."""
    lines, everything = [["seeds", *COLUMNS]], on_purpose(rows)
    for seeds in (range(SEEDS.start, NEW_SEED), range(NEW_SEED, SEEDS.stop)):
        made = [row for row in everything if row.seed in seeds]
        cells = {name: [row for row in made if row.cell == name] for name in map(cell_of, LACKING[1:])}
        for name, of_cell in (cells | {"together": made}).items():
            told = [answer_of(row, rows) for row in of_cell]
            lines.append([f"{seeds[0]} to {seeds[-1]}", *counted(name, told)])
    return markdown(lines)


def counted(name: str, told: Sequence[Answer]) -> list[str]:
    """How many answers there are, and how many are right, late, missing and wrong."""
    first = sum(answer.is_first for answer in told)
    later = sum(answer.is_named for answer in told) - first
    silent = sum(not answer.waits_for for answer in told)
    return [name, *map(str, (len(told), first, later, silent, len(told) - first - later - silent))]


def ends(rows: Sequence[Asked]) -> str:
    """Median step of the escape of each setting, without each term."""
    names = [cell_of(lacking) for lacking in LACKING]
    lines = [["task, initialisation", "all four", *(f"without {name}" for name in names[1:])]]
    for setting, cells in by_cell(rows, beside=NOTHING).items():
        lines.append([setting, *(escapes(cells[name]) if name in cells else "" for name in names)])
    return markdown(lines)


TABLES = {"answers": answers, "escapes": ends}
"""Of its card, by the part of the mark."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bottlenecks"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="these tasks")
    parser.add_argument("--inits", nargs="+", choices=INITS, default=INITS, help="these initialisations")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS, help="these seeds")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, with one thread each")
    given = parser.parse_args()
    for init in given.inits:
        for task in given.only:
            train(task, init, given.seeds, given.out, given.workers)


if __name__ == "__main__":
    main()
