"""Strategies against a baseline: how much sooner, and for how much less, with bounds where runs are censored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unplateau.analysis.columns import mark
from unplateau.analysis.runs import MILESTONES, Milestone, Runs, RunSummary, summaries
from unplateau.analysis.savings import MEASURES, SHOWN, Cost, Measure, Saving, budget_of, cost_of, saving_of
from unplateau.analysis.survival import Bounded, median_time
from unplateau.errors import SpecError, suggest

BASELINE = "plain"
"""The strategy that others are compared with unless another is named."""


@dataclass(frozen=True)
class StrategyComparison:
    """One strategy. ``costs`` leave out measures that were not recorded for every run.

    ``savings`` are empty for the baseline itself.
    """

    strategy: str
    runs: tuple[RunSummary, ...]
    costs: Mapping[Milestone, Mapping[Measure, Cost]]
    savings: Mapping[Milestone, Mapping[Measure, Saving]]

    @property
    def times(self) -> Mapping[Milestone, Bounded]:
        """Median step of each milestone."""
        return {there: self.costs[there]["steps"].median for there in MILESTONES}

    @property
    def unfinished(self) -> int:
        """Runs without their last step; they count as censored where they stopped."""
        return sum(not run.finished for run in self.runs)

    def n_reached(self, milestone: Milestone) -> int:
        """Runs that are not censored."""
        return sum(run.reached(milestone) is not None for run in self.runs)

    def n_lost(self, milestone: Milestone) -> int:
        """Runs that got there and were thrown back, whether or not they came again."""
        return sum(bool(run.lost[milestone]) for run in self.runs)

    def p(self, milestone: Milestone) -> float | None:
        """Of the log-rank test in steps."""
        saving = self.savings.get(milestone, {}).get("steps")
        return saving.logrank_p if saving else None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; see :meth:`Bounded.as_dict` for bounds."""
        return {
            "strategy": self.strategy,
            "seeds": [run.seed for run in self.runs],
            "unfinished": self.unfinished,
            **{milestone: self._milestone_dict(milestone) for milestone in MILESTONES},
        }

    def _milestone_dict(self, milestone: Milestone) -> dict[str, Any]:
        return {
            "reached": self.n_reached(milestone),
            "censored": len(self.runs) - self.n_reached(milestone),
            "lost": self.n_lost(milestone),
            "step": self.times[milestone].as_dict(),
            "costs": {name: cost.as_dict() for name, cost in self.costs[milestone].items()},
            "savings": {name: saving.as_dict() for name, saving in self.savings.get(milestone, {}).items()},
            "logrank_p": self.p(milestone),
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

    def as_dict(self) -> dict[str, Any]:
        """An entry of ``comparisons`` in ``summary.json``."""
        strategies = [one.as_dict() for one in self.strategies]
        return {"recipe": self.recipe, "baseline": self.baseline, "strategies": strategies}

    def __str__(self) -> str:
        methods = sorted({run.energy_method for one in self.strategies for run in one.runs})
        notes = [
            f"x: cost of {self.baseline} / cost of the strategy, median over seeds in common; > and <: bounds",
            f"joules: {'; '.join(methods)}",
            "in brackets: 95 % intervals; mean: what exceeds the budget counts as the budget",
        ]
        if any(one.n_lost(milestone) for one in self.strategies for milestone in MILESTONES):
            notes.append(
                "lost: runs that got there and were thrown back; if they did not come again they are not reached"
            )
        if any(one.unfinished for one in self.strategies):
            notes.append("*: unfinished runs, censored where they stopped")
        tables = [table(self, there) for there in MILESTONES for table in (_text_table, _budget_table)]
        return "\n\n".join([*filter(None, tables), "\n".join(notes)])


def compare(runs: Runs, baseline: str = BASELINE) -> Comparison:
    """Compares the strategies among these runs (records, run directories, or folders of them) with ``baseline``.

    Raises SpecError if there is no run, none of the baseline, two of the same strategy and seed, or if runs differ in
    more than strategy, seed and length.
    """
    return compare_summaries(summaries(runs), baseline)


def compare_summaries(runs: Sequence[RunSummary], baseline: str = BASELINE) -> Comparison:
    """The same for runs that have been summarised."""
    groups = by_strategy(runs, baseline)
    if baseline not in groups:
        raise SpecError(f"baseline: no run of strategy '{baseline}'{suggest(baseline, groups)}")
    budgets = {(there, what): budget_of([*groups.values()], there, what) for there in MILESTONES for what in MEASURES}
    compared = [_strategy(name, members, groups[baseline], budgets) for name, members in groups.items()]
    return Comparison(runs[0].recipe, baseline, tuple(compared))


def by_strategy(runs: Sequence[RunSummary], first: str = BASELINE) -> dict[str, tuple[RunSummary, ...]]:
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
    shared = {name: spec.get(name) for name in ("recipe", "task", "model", "cut")}
    shared |= {f"train.{name}": spec.get("train", {}).get(name) for name in ("batch_size", "lr", "schedule")}
    return {name: json.dumps(value, sort_keys=True) for name, value in shared.items()}


def _refuse_mixtures(runs: Sequence[RunSummary]) -> None:
    first = experiment(runs[0])
    for run in runs[1:]:
        if differing := [name for name, value in experiment(run).items() if value != first[name]]:
            raise SpecError(
                f"{runs[0].record.path} and {run.record.path} differ in {', '.join(differing)}: only runs that differ "
                f"in strategy and seed alone can be compared; name one experiment"
            )


def _strategy(
    name: str,
    runs: tuple[RunSummary, ...],
    baseline: tuple[RunSummary, ...],
    budgets: Mapping[tuple[Milestone, Measure], float | None],
) -> StrategyComparison:
    costs: dict[Milestone, dict[Measure, Cost]] = {there: {} for there in MILESTONES}
    savings: dict[Milestone, dict[Measure, Saving]] = {} if runs is baseline else {there: {} for there in MILESTONES}
    for (there, what), budget in budgets.items():
        if budget is not None:
            costs[there][what] = cost_of(runs, there, what, budget)
        if savings:
            savings[there][what] = saving_of(runs, baseline, there, what, budget)
    return StrategyComparison(name, runs, costs, savings)


def _order(runs: Sequence[RunSummary]) -> tuple[tuple[bool, float], ...]:
    """Sorts by escape, exact before bound, then by completion."""
    times = [median_time([run.time_of(there) for run in runs]) for there in MILESTONES]
    return tuple((not time.exact, time.low) for time in times)


def _text_table(comparison: Comparison, milestone: Milestone) -> str:
    head = [milestone, "reached", "step (95 %)", *(f"{MEASURES[name]} x" for name in SHOWN)]
    return _aligned(head, [_text_row(one, milestone) for one in comparison.strategies])


def _text_row(one: StrategyComparison, milestone: Milestone) -> list[str]:
    reached = f"{one.n_reached(milestone)} of {len(one.runs)}"
    if lost := one.n_lost(milestone):
        reached += f", {lost} lost"
    savings = one.savings.get(milestone)
    ratios = [savings[name].cell.text for name in SHOWN] if savings else [""] * len(SHOWN)
    step = one.times[milestone].shown()
    if len(one.runs) > 1:
        step += f" ({one.costs[milestone]['steps'].band.shown()})"
    return [one.strategy + mark(one.runs), reached, step, *ratios]


def _budget_table(comparison: Comparison, milestone: Milestone) -> str:
    """Empty where no strategy has two runs."""
    if all(len(one.runs) < 2 for one in comparison.strategies):
        return ""
    budget = comparison.strategies[0].costs[milestone]["steps"].budget
    head = [f"{milestone} within {budget:,.0f} steps", "share", "mean step", "steps x", "p (log-rank)", "p (paired)"]
    rows = []
    for one in comparison.strategies:
        cost, saving = one.costs[milestone]["steps"], one.savings.get(milestone, {}).get("steps")
        ratio = saving.restricted.shown() if saving and saving.restricted else ""
        tests = ["" if p is None else f"{p:.2g}" for p in ((saving.logrank_p, saving.paired_p) if saving else ())]
        rows.append([one.strategy, cost.share.shown(2), f"{cost.restricted_mean:,.0f}", ratio, *(tests or ["", ""])])
    return _aligned(head, rows)


def _aligned(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


@dataclass(frozen=True)
class Summary:
    """All runs in numbers, and for each experiment that has plain runs a comparison with them."""

    runs: tuple[RunSummary, ...]
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``: plain JSON values, unknown ones are null."""
        return {
            "runs": [one.as_dict() for one in self.runs],
            "comparisons": [one.as_dict() for one in self.comparisons],
        }


def summarise(runs: Runs) -> Summary:
    """These runs in numbers (records, run directories, or folders of them), ordered by experiment, strategy and seed.

    Raises SpecError if there is no run, or if an experiment has two runs of the same strategy and seed.
    """
    groups: dict[tuple[str, ...], list[RunSummary]] = {}
    for run in sorted(summaries(runs), key=lambda run: (run.recipe, run.strategy, run.seed)):
        groups.setdefault(tuple(experiment(run).values()), []).append(run)
    ordered = [run for members in groups.values() for run in members]
    with_baseline = [members for members in groups.values() if BASELINE in {run.strategy for run in members}]
    return Summary(tuple(ordered), tuple(map(compare_summaries, with_baseline)))
