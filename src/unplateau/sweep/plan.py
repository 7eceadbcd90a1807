"""What a sweep has to do, told before any of it is done: which runs are there already, and how far they are."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from unplateau.config import in_script, parts_of
from unplateau.errors import SpecError
from unplateau.files import demand_locks, is_held
from unplateau.store import LOCK, RunState, is_done, newest_row
from unplateau.train.spec import RunSpec

Found = Literal["done", "running", "begun", "to do"]


@dataclass(frozen=True)
class Planned:
    """One run of a plan: what is there of it, and how far it is."""

    spec: RunSpec
    name: str
    path: Path
    found: Found
    step: int


def names(specs: Sequence[RunSpec]) -> list[str]:
    """Strategy and seed of each, with the digest where these are not enough to tell runs apart."""
    short = [f"{spec.strategy.name}, seed {spec.seed}" for spec in specs]
    n = Counter(short)
    return [f"{name} ({spec.digest()})" if n[name] > 1 else name for name, spec in zip(short, specs, strict=True)]


def states(specs: Sequence[RunSpec], out: Path) -> list[RunState]:
    """Each run before anything is known of it. Raises SpecError if one is asked for twice."""
    runs = [RunState(name, one.directory(out), one.train.steps) for one, name in zip(specs, names(specs), strict=True)]
    if len({run.path for run in runs}) < len(runs):
        raise SpecError("the same run is asked for twice; a run is told apart by its spec, seed included")
    return runs


def plan(specs: Sequence[RunSpec], out: Path) -> list[Planned]:
    """What there is of each run. Raises SpecError if one is asked for twice."""
    runs = states(specs, out)
    return [
        Planned(spec, run.name, run.path, _found(run), newest_row(run.path).get("step", 0))
        for spec, run in zip(specs, runs, strict=True)
    ]


def _found(run: RunState) -> Found:
    if not run.path.is_dir():
        return "to do"
    if is_done(run.path, run.total):
        return "done"
    return "running" if is_held(run.path / LOCK) else "begun"


def donors(specs: Sequence[RunSpec]) -> list[frozenset[int]]:
    """Of each run the numbers of those here whose weights it takes, or they in turn."""
    numbers = {spec.digest(): number for number, spec in enumerate(specs)} if any(one.grafts for one in specs) else {}

    def of(spec: RunSpec) -> Iterator[int]:
        for graft in spec.grafts:
            if (number := numbers.get(graft.donor.digest())) is not None:
                yield number
            yield from of(graft.donor)

    return [frozenset(of(spec)) for spec in specs]


def waves(specs: Sequence[RunSpec], numbers: Iterable[int]) -> list[list[int]]:
    """These specs, by number, in groups that can go on at a time: whose weights they take is in an earlier one."""
    before = donors(specs)
    ordered = sorted(numbers, key=lambda number: len(before[number]))
    return [[*wave] for _, wave in groupby(ordered, key=lambda number: len(before[number]))]


def refuse_hopeless(specs: Sequence[RunSpec], runs: Sequence[RunState]) -> None:
    """Raises SpecError for what would fail, or not be begun, once others are running; StorageError without locks.

    Finished runs need no data.
    """
    for spec in specs:
        for _, part in parts_of(spec):
            if type(part).__module__ == "__main__":
                raise SpecError(in_script(type(part).__name__))
    for number, (spec, run) in enumerate(unfinished_kinds(specs, runs)):
        if not number:
            demand_locks(run.path)
        spec.check()


def unfinished_kinds(specs: Sequence[RunSpec], runs: Sequence[RunState]) -> Iterator[tuple[RunSpec, RunState]]:
    """The first of each kind of run, by task, model and strategy, that is not finished: what is to be checked."""
    seen: set[tuple[str, ...]] = set()
    for spec, run in zip(specs, runs, strict=True):
        kind = _kind(spec)
        if kind not in seen and not is_done(run.path, run.total):
            seen.add(kind)
            yield spec, run


def _kind(spec: RunSpec) -> tuple[str, ...]:
    return tuple(part.digest() for part in (spec.task, spec.model, spec.strategy))


def farewell(out: Path, n_done: int, n_runs: int) -> str:
    """What to tell who stopped runs before all had ended."""
    return (
        f"{out}: stopped; {n_done} of {n_runs} runs are finished, those begun are saved; run the same command again to "
        f"resume"
    )
