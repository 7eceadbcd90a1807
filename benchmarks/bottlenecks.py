"""Is ``unplateau diagnose`` right? Runs that lack one thing on purpose, on seeds that its lines were not drawn on.

    python benchmarks/bottlenecks.py [--out runs/bottlenecks] [--only words recall] [--workers 2]

Every task is trained with ``unplateau`` and without each of its four terms in turn. Where the whole leaves the plateau
and the same seed without a term stays on it to the end, what that term asks for is what the run waits for, and nobody
needs to be believed for it. ``diagnose`` is then asked of the finished model. What was found is kept in
benchmarks/results/bottlenecks.jsonl, from which ``benchmarks/cards.py`` makes the tables of its card.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pages import markdown

import unplateau as up
from unplateau.analysis.runs import summarise_run
from unplateau.analysis.survival import Bounded, median_time
from unplateau.files import write_whole
from unplateau.probe.diagnose import diagnose
from unplateau.store import RunRecord
from unplateau.strategies.base import Part
from unplateau.studies.tasks import TASKS
from unplateau.sweep.process import RunFailure
from unplateau.train.checkpoint import load_model

RAW = Path(__file__).parent / "results" / "bottlenecks.jsonl"
SEEDS, STEPS = (110, 111, 112), 500
INITS = ("scaled", "gpt2")
TERMS: Mapping[str, Part] = {
    "items": up.MatchLoss(),
    "labels": up.BindLoss(),
    "queries": up.LookLoss(),
    "kept labels": up.KeepLoss(),
}
NOTHING = "nothing"
"""What a run lacks that is asked for all of them."""


@dataclass(frozen=True)
class Asked:
    """A run, what it was not asked for, and what ``diagnose`` says of it at the end.

    ``setting``: task and initialisation. ``escape``: its step, None if it did not leave its plateau. ``waits_for``:
    what is missing, the first thing first.
    """

    setting: str
    lacks: str
    seed: int
    steps: int
    escape: int | None
    progress: float
    waits_for: list[str]
    spec: str
    commit: str | None
    machine: str


def plan(task: str, init: str) -> Iterator[tuple[str, up.RunSpec]]:
    """What a run lacks, and the run: seed by seed."""
    plain = TASKS[task]()
    spec = plain.with_settings({"train.steps": STEPS, "train.probe_every": 0, "model.init": init})
    spec = spec.model_copy(update={"recipe": f"bottlenecks-{task}-{init}"})
    for seed in SEEDS:
        for lacks in (NOTHING, *TERMS):
            asked = up.Strategy(*(term for thing, term in TERMS.items() if thing != lacks))
            yield lacks, spec.with_strategy(asked).with_seed(seed)


def train(task: str, init: str, out: Path, workers: int) -> None:
    """Whatever has no row yet."""
    rows = kept()
    missing = [(lacks, spec) for lacks, spec in plan(task, init) if spec.digest() not in {row.spec for row in rows}]
    runs = up.run_many([spec for _, spec in missing], out=out, workers=workers)
    for (lacks, _), run in zip(missing, runs, strict=True):
        if isinstance(run, RunFailure):
            raise SystemExit(f"{task}, {init}, without {lacks}: {run}")
        rows.append(asked(f"{task}, {init}", lacks, run))
    rows.sort(key=lambda row: (row.setting, row.lacks, row.seed))
    write_whole(RAW, "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode())
    print(f"{task}, {init}: {len(missing)} runs", flush=True)


def asked(setting: str, lacks: str, record: RunRecord) -> Asked:
    """What is kept of a finished run."""
    run, (spec, model) = summarise_run(record), load_model(record.path)
    said = diagnose(model, spec.task)
    return Asked(
        setting=setting,
        lacks=lacks,
        seed=run.seed,
        steps=run.steps,
        escape=run.escape_step,
        progress=round(run.final_progress or 0.0, 4),
        waits_for=list(said.waits_for),
        spec=spec.digest(),
        commit=record.env["versions"]["commit"],
        machine=record.env["machine"]["cpu"],
    )


def kept() -> list[Asked]:
    """The rows so far."""
    return [Asked(**json.loads(line)) for line in RAW.read_text("utf-8").splitlines()] if RAW.exists() else []


def on_purpose(rows: Sequence[Asked]) -> list[Asked]:
    """Runs that stay on a plateau which the same seed leaves when nothing is lacking."""
    left = {(row.setting, row.seed) for row in rows if row.lacks == NOTHING and row.escape is not None}
    return [row for row in rows if row.lacks != NOTHING and row.escape is None and (row.setting, row.seed) in left]


def answers(rows: Sequence[Asked]) -> str:
    """What was named of the runs made on purpose, by what they lack."""
    made = on_purpose(rows)
    lines = [["lacking", "runs", "named first", "named later", "don't know", "only others named"]]
    lines += [_counted(thing, [row for row in made if row.lacks == thing]) for thing in TERMS]
    return markdown([*lines, _counted("together", made)])


def _counted(name: str, rows: Sequence[Asked]) -> list[str]:
    first = sum(row.waits_for[:1] == [row.lacks] for row in rows)
    named = sum(row.lacks in row.waits_for for row in rows)
    silent = sum(not row.waits_for for row in rows)
    return [name, *map(str, (len(rows), first, named - first, silent, len(rows) - named - silent))]


def escapes(rows: Sequence[Asked]) -> str:
    """Median step of the escape of each setting, without each term."""
    cells: dict[str, dict[str, list[Asked]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row.setting][row.lacks].append(row)
    lines = [["task, initialisation", "all four", *(f"without {thing}" for thing in TERMS)]]
    for setting, of_setting in sorted(cells.items()):
        lines.append([setting, *(_escape(of_setting[lacks]) for lacks in (NOTHING, *TERMS))])
    return markdown(lines)


def _escape(rows: Sequence[Asked]) -> str:
    if not rows:
        return ""
    times = [Bounded.above(row.steps) if row.escape is None else Bounded.exactly(row.escape) for row in rows]
    return f"{median_time(times).shown()} ({sum(row.escape is not None for row in rows)}/{len(rows)})"


TABLES = {"answers": answers, "escapes": escapes}
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
