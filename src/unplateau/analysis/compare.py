"""Strategies against a baseline: how much sooner, and for how much less, with bounds where runs are censored.

What enters: runs of one experiment that differ in strategy and seed only. What leaves: a :class:`Comparison`, which
prints as a table. A saving in steps only is not a saving, so FLOPs, seconds and joules stand beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unplateau.analysis.runs import EVENTS, Event, RunSummary, read_figures, records
from unplateau.analysis.survival import Bounded, known, logrank_p, median_ratio, median_time, range_of
from unplateau.errors import SpecError, suggest
from unplateau.store import RunRecord

Measure = Literal["steps", "train_flops", "seconds", "joules"]

MEASURES: dict[Measure, str] = {"steps": "steps", "train_flops": "FLOPs", "seconds": "seconds", "joules": "joules"}

SAME_FOR_ALL = ("recipe", "task", "model", "cut")

SAME_IN_TRAINING = ("batch_size", "lr")


@dataclass(frozen=True)
class Saving:
    """Cost of the baseline divided by cost of the strategy: above 1 the strategy is cheaper.

    ``ratio``: median over ``pairs`` of runs with the same seed (0: no seed in common, ratio of the medians).
    ``spread``: from the least to the most over these pairs. None where nothing is known, such as when both sides are
    censored or no energy was recorded.
    """

    ratio: Bounded | None
    spread: Bounded | None
    pairs: int


@dataclass(frozen=True)
class StrategyComparison:
    """One strategy. ``times``: median step of each event. ``savings`` and ``p`` are empty for the baseline itself.

    ``p``: two-sided log-rank test against the baseline, None below three runs a side.
    """

    strategy: str
    runs: tuple[RunSummary, ...]
    times: Mapping[Event, Bounded]
    savings: Mapping[Event, Mapping[Measure, Saving]]
    p: Mapping[Event, float | None]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def unfinished(self) -> int:
        """Runs without their last step; they count as censored where they stopped."""
        return sum(not run.finished for run in self.runs)

    def n_reached(self, event: Event) -> int:
        """Runs that are not censored."""
        return sum(run.reached(event) is not None for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; see :meth:`Bounded.as_dict` for bounds."""
        return {
            "strategy": self.strategy,
            "seeds": list(self.seeds),
            "unfinished": self.unfinished,
            **{event: self._event_dict(event) for event in EVENTS},
        }

    def _event_dict(self, event: Event) -> dict[str, Any]:
        return {
            "reached": self.n_reached(event),
            "censored": len(self.runs) - self.n_reached(event),
            "step": self.times[event].as_dict(),
            "savings": {
                name: {"pairs": saving.pairs, "ratio": _json(saving.ratio), "range": _json(saving.spread)}
                for name, saving in self.savings.get(event, {}).items()
            },
            "logrank_p": self.p.get(event),
        }


@dataclass(frozen=True)
class Comparison:
    """All strategies of one experiment, the baseline first, then by escape."""

    recipe: str
    baseline: str
    strategies: tuple[StrategyComparison, ...]

    def __getitem__(self, strategy: str) -> StrategyComparison:
        for one in self.strategies:
            if one.strategy == strategy:
                return one
        raise SpecError(f"no runs of strategy '{strategy}'{suggest(strategy, [s.strategy for s in self.strategies])}")

    @property
    def energy_methods(self) -> tuple[str, ...]:
        """How the joules came about: measured, or estimated and with what power."""
        return tuple(sorted({run.energy_method for one in self.strategies for run in one.runs}))

    def as_dict(self) -> dict[str, Any]:
        """An entry of ``comparisons`` in ``summary.json``."""
        strategies = [one.as_dict() for one in self.strategies]
        return {"recipe": self.recipe, "baseline": self.baseline, "strategies": strategies}

    def __str__(self) -> str:
        notes = [f"x: cost of {self.baseline} / cost of the strategy, median over seeds in common; > and <: bounds"]
        notes.append(f"joules: {'; '.join(self.energy_methods)}")
        if any(one.unfinished for one in self.strategies):
            notes.append("*: unfinished runs, censored where they stopped")
        return "\n\n".join([*(_text_table(self, event) for event in EVENTS), "\n".join(notes)])


def compare(runs: RunRecord | str | Path | Sequence[RunRecord | str | Path], baseline: str = "plain") -> Comparison:
    """Compares the strategies among these runs (records, run directories, or folders of them) with ``baseline``.

    Raises SpecError if there is no run, none of the baseline, two of the same strategy and seed, or if runs differ in
    more than strategy, seed and length.
    """
    return compare_figures([read_figures(record) for record in records(runs)], baseline)


def compare_figures(runs: Sequence[RunSummary], baseline: str = "plain") -> Comparison:
    """The same for runs whose figures have been read."""
    groups = by_strategy(runs, baseline)
    if baseline not in groups:
        raise SpecError(f"baseline: no run of strategy '{baseline}'{suggest(baseline, groups)}")
    compared = [_strategy(name, members, groups[baseline]) for name, members in groups.items()]
    return Comparison(runs[0].recipe, baseline, tuple(compared))


def by_strategy(runs: Sequence[RunSummary], first: str = "plain") -> dict[str, tuple[RunSummary, ...]]:
    """Runs of one experiment in order of seed, by strategy: ``first``, then the others by when they escape.

    Raises SpecError if the runs cannot be compared.
    """
    _refuse_mixtures(runs)
    groups: dict[str, dict[int, RunSummary]] = {}
    for run in sorted(runs, key=lambda run: (run.strategy, run.seed)):
        twin = groups.setdefault(run.strategy, {}).setdefault(run.seed, run)
        if twin is not run:
            raise SpecError(
                f"strategy '{run.strategy}' has two runs with seed {run.seed}: {twin.record.path} and "
                f"{run.record.path}; name only one of them"
            )
    found = {strategy: tuple(members.values()) for strategy, members in groups.items()}
    return dict(sorted(found.items(), key=lambda item: (item[0] != first, _order(item[1]), item[0])))


def experiment(run: RunSummary) -> dict[str, str]:
    """What two runs must share to be comparable, as JSON texts by name."""
    spec = run.record.spec
    shared = {name: spec.get(name) for name in SAME_FOR_ALL}
    shared |= {f"train.{name}": spec.get("train", {}).get(name) for name in SAME_IN_TRAINING}
    return {name: json.dumps(value, sort_keys=True) for name, value in shared.items()}


def time_of(run: RunSummary, event: Event) -> Bounded:
    """Step of the event; beyond the last step for a censored run."""
    step = run.reached(event)
    return Bounded.above(run.steps) if step is None else Bounded.exactly(step)


def cost_of(run: RunSummary, event: Event, measure: Measure) -> Bounded | None:
    """Cost to reach the event; more than all that was spent for a censored run; None if it was not recorded."""
    to_event = run.costs_to[event]
    value = getattr(run.costs if to_event is None else to_event, measure)
    if value is None:
        return None
    return Bounded.above(value) if to_event is None else Bounded.exactly(value)


def _refuse_mixtures(runs: Sequence[RunSummary]) -> None:
    first = experiment(runs[0])
    for run in runs[1:]:
        here = experiment(run)
        differing = [name for name in first if here[name] != first[name]]
        if differing:
            raise SpecError(
                f"{runs[0].record.path} and {run.record.path} differ in {', '.join(differing)}: only runs that differ "
                f"in strategy and seed alone can be compared; name one experiment"
            )


def _strategy(name: str, runs: tuple[RunSummary, ...], baseline: tuple[RunSummary, ...]) -> StrategyComparison:
    times = {event: median_time([time_of(run, event) for run in runs]) for event in EVENTS}
    if runs is baseline:
        return StrategyComparison(name, runs, times, {}, {})
    savings = {event: {measure: _saving(runs, baseline, event, measure) for measure in MEASURES} for event in EVENTS}
    p = {
        event: logrank_p([time_of(run, event) for run in runs], [time_of(run, event) for run in baseline])
        for event in EVENTS
    }
    return StrategyComparison(name, runs, times, savings, p)


def _saving(runs: Sequence[RunSummary], baseline: Sequence[RunSummary], event: Event, measure: Measure) -> Saving:
    ours = {run.seed: cost for run in runs if (cost := cost_of(run, event, measure)) is not None}
    theirs = {run.seed: cost for run in baseline if (cost := cost_of(run, event, measure)) is not None}
    ratios = [theirs[seed].over(ours[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if ratios or not ours or not theirs:
        return Saving(median_ratio(ratios), range_of(ratios), len(ratios))
    return Saving(known(median_time([*theirs.values()]).over(median_time([*ours.values()]))), None, 0)


def _order(runs: Sequence[RunSummary]) -> tuple[tuple[bool, float], ...]:
    """Sorts by escape, exact before bound, then by completion."""
    times = [median_time([time_of(run, event) for run in runs]) for event in EVENTS]
    return tuple((not time.exact, time.low) for time in times)


def _text_table(comparison: Comparison, event: Event) -> str:
    head = [event, "reached", "step", *(f"{unit} x" for unit in MEASURES.values()), "p"]
    rows = [head, *(_text_row(one, event) for one in comparison.strategies)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _text_row(one: StrategyComparison, event: Event) -> list[str]:
    name = one.strategy + ("*" if one.unfinished else "")
    ratios = [saving.ratio.shown(digits=1) if saving.ratio else "?" for saving in one.savings.get(event, {}).values()]
    p = one.p.get(event)
    reached = f"{one.n_reached(event)} of {len(one.runs)}"
    cells = [name, reached, one.times[event].shown(), *(ratios or ["" for _ in MEASURES])]
    return [*cells, "" if p is None else f"{p:.2g}"]


def _json(quantity: Bounded | None) -> dict[str, Any] | None:
    return quantity.as_dict() if quantity else None


BASELINE = "plain"


@dataclass(frozen=True)
class Summary:
    """Figures of each run, and for each experiment that has plain runs a comparison with them."""

    runs: tuple[RunSummary, ...]
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``: plain JSON values, unknown ones are null."""
        return {
            "runs": [run.as_dict() for run in self.runs],
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
        }


def summarise(runs: RunRecord | str | Path | Sequence[RunRecord | str | Path]) -> Summary:
    """Figures of these runs (records, run directories, or folders of them), ordered by experiment, strategy and seed.

    Raises SpecError if there is no run, or if an experiment has two runs of the same strategy and seed.
    """
    figures = [read_figures(record) for record in records(runs)]
    groups: dict[tuple[str, ...], list[RunSummary]] = {}
    for run in sorted(figures, key=lambda run: (run.recipe, run.strategy, run.seed)):
        groups.setdefault(tuple(experiment(run).values()), []).append(run)
    ordered = [run for members in groups.values() for run in members]
    compared = [
        compare_figures(members, BASELINE)
        for members in groups.values()
        if any(run.strategy == BASELINE for run in members)
    ]
    return Summary(tuple(ordered), tuple(compared))
