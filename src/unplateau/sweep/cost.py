"""What the rest of a plan costs: FLOPs, seconds and joules, from its finished runs and from trials on this machine."""

import heapq
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from unplateau.errors import RunDirectoryError
from unplateau.limits import refuse_threads
from unplateau.store import read_done
from unplateau.sweep.plan import Planned, plan
from unplateau.sweep.trial import KindOfRun, Trial, trial, tried_as
from unplateau.train.clock import Spent
from unplateau.train.loop import choose_device
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, step_flops

BUDGET = 60.0
"""Seconds of trials after which no other kind of run is tried."""
How = Literal["finished", "tried", "reckoned"]
"""What a run takes is known from finished runs of its kind, from a trial of it, or from another kind by FLOPs."""


@dataclass(frozen=True)
class Left:
    """What one run has still to do: training FLOPs, time and energy."""

    flops: int
    spent: Spent


@dataclass(frozen=True)
class Cost:
    """Of what is left of a plan, run by run in its order.

    ``kinds``: how many kinds of run are known in which way. ``finished``: how many runs were asked what they took.
    ``method``: how the joules come about.
    """

    left: tuple[Left, ...]
    kinds: Mapping[How, int]
    finished: int
    method: str

    @property
    def flops(self) -> int:
        """Training FLOPs of all."""
        return sum(one.flops for one in self.left)

    @property
    def spent(self) -> Spent:
        """Of all, one after the other."""
        return sum((one.spent for one in self.left), Spent())

    def seconds(self, at_once: int) -> float:
        """Until the last has ended, with so many at a time, begun in their order, if none slows another."""
        free_at = [0.0] * max(1, min(at_once, len(self.left)))
        for one in self.left:
            heapq.heapreplace(free_at, free_at[0] + one.spent.seconds)
        return max(free_at)


@dataclass(frozen=True)
class Reckoned(KindOfRun):
    """A kind of run that was not tried: what a whole one takes, of which a part is as large as its FLOPs."""

    whole: Spent

    def left(self, step: int = 0) -> Spent:
        """What a run takes that has made ``step`` updates."""
        return self.whole * (self.flops_left(step) / self.flops_left())


def cost(planned: Sequence[Planned], *, device: str = "auto", threads: int = 1, budget: float = BUDGET) -> Cost:
    """Of what is left of these runs, and of others that they take weights from.

    A kind of run costs what finished runs of it did. Without one it is tried here, on ``device`` and with so many CPU
    threads, the largest first, until ``budget`` seconds are over; the rest is reckoned from the kind nearest in FLOPs.
    This reads data and computes. Raises what ``spec.check()`` does, and SpecError for threads that cannot be.
    """
    refuse_threads(threads)
    planned = [*_with_donors(planned)]
    taken: dict[str, list[tuple[Spent, str]]] = {}
    to_do: list[tuple[Planned, str]] = []
    specs: dict[str, RunSpec] = {}
    for one in planned:
        spec = tried_as(one.spec)
        kind = spec.digest()
        taken.setdefault(kind, []).extend(_taken(one))
        if one.found != "done":
            to_do.append((one, kind))
            specs[kind] = spec
    known = _known(specs, taken, choose_device(device), threads, budget)
    runs = [each for kind in known for each in taken[kind]]
    methods = [one.method for one, _ in known.values() if isinstance(one, Trial)] + [method for _, method in runs]
    return Cost(
        left=tuple(Left(known[kind][0].flops_left(one.step), known[kind][0].left(one.step)) for one, kind in to_do),
        kinds=Counter(how for _, how in known.values()),
        finished=len(runs),
        method=", ".join(dict.fromkeys(methods)) or "none",
    )


def _known(
    specs: Mapping[str, RunSpec],
    taken: Mapping[str, Sequence[tuple[Spent, str]]],
    device: torch.device,
    threads: int,
    budget: float,
) -> dict[str, tuple[KindOfRun, How]]:
    """What each kind of run takes, and how that is known: those with finished runs first, then the largest first."""
    known: dict[str, tuple[KindOfRun, How]] = {}
    begun = time.monotonic()
    for kind in sorted(specs, key=lambda kind: (not taken[kind], -_size(specs[kind]))):
        spec = specs[kind]
        if taken[kind]:
            spent = sum((one for one, _ in taken[kind]), Spent()) * (1 / len(taken[kind]))
            known[kind] = Reckoned(spec, _of_update(spec), spent), "finished"
        elif time.monotonic() - begun < budget or not known:
            known[kind] = trial(spec, device, threads=threads), "tried"
        else:
            known[kind] = _by_flops(spec, [one for one, _ in known.values()]), "reckoned"
    return known


def _with_donors(planned: Sequence[Planned]) -> Iterator[Planned]:
    """These runs, and before each those that would be trained first, for their weights."""
    seen = {one.path for one in planned}

    def donors(one: Planned) -> Iterator[Planned]:
        for graft in one.spec.grafts if one.found != "done" else ():
            (donor,) = plan([graft.donor], one.path.parents[2])
            if donor.path not in seen:
                seen.add(donor.path)
                yield from donors(donor)
                yield donor

    for one in planned:
        yield from donors(one)
        yield one


def _taken(one: Planned) -> Iterator[tuple[Spent, str]]:
    """What this run took if it is finished, its start apart, and how the joules came about."""
    try:
        done = read_done(one.path, one.spec.train.steps) if one.found == "done" else None
    except RunDirectoryError:
        return
    if done and "seconds" in done:
        parts = [Spent(done.get(f"{whose}seconds", 0.0), done.get(f"{whose}joules")) for whose in ("", "observer_")]
        yield parts[0] + parts[1], done.get("energy_method", "none")


def _size(spec: RunSpec) -> float:
    """About the FLOPs of the run."""
    shape = spec.task.shape
    return 6 * spec.model.n_weights(shape) * shape.layout.n_positions * spec.train.batch_size * spec.train.steps


def _by_flops(spec: RunSpec, known: Iterable[KindOfRun]) -> Reckoned:
    """From the kind whose updates are nearest to those of this one."""
    flops = _of_update(spec)
    nearest = min(known, key=lambda one: abs(math.log(sum(one.flops.values()) / sum(flops.values()))))
    ratio = Reckoned(spec, flops, Spent()).flops_left() / nearest.flops_left()
    return Reckoned(spec, flops, nearest.left() * ratio)


def _of_update(spec: RunSpec) -> dict[str, int]:
    spec.check()
    device = torch.device("cpu")
    return step_flops(spec, build_model(spec, device), build_heads(spec, device), device)
