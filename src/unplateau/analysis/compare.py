"""Strategies against a baseline: how much sooner, and for how much less, with bounds where runs are censored."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from unplateau.analysis.columns import mark
from unplateau.analysis.runs import MILESTONES, Milestone, Runs, RunSummary, summaries
from unplateau.analysis.savings import MEASURES, SHOWN, Cost, Measure, Saving, budget_of, cost_of, saving_of
from unplateau.analysis.survival import FEWEST_IN_MEDIAN, FEWEST_IN_RATIO, Bounded, median_time
from unplateau.analysis.variants import Variant, shortened, variants
from unplateau.damage import LeftOut
from unplateau.errors import SpecError, suggest
from unplateau.notebook import frame, table_html

BASELINE = "plain"
"""The strategy that others are compared with unless another is named."""


@dataclass(frozen=True)
class StrategyComparison:
    """The runs of one strategy, and of one choice of settings where these differ.

    ``against``: name of those that they are compared with, their own for a baseline, None where there are none.
    ``costs`` leave out measures that were not recorded for every run. ``savings`` are empty without a comparison.
    """

    variant: Variant
    runs: tuple[RunSummary, ...]
    against: str | None
    costs: Mapping[Milestone, Mapping[Measure, Cost]]
    savings: Mapping[Milestone, Mapping[Measure, Saving]]

    @property
    def name(self) -> str:
        """That of the strategy, followed by the settings that differ."""
        return self.variant.name

    @property
    def strategy(self) -> str:
        """Name of the strategy alone."""
        return self.variant.strategy

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
            "settings": dict(self.variant.settings),
            "against": self.against,
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


@dataclass(frozen=True, repr=False)
class Comparison:
    """All strategies, and settings where these differ: those of one baseline together, it first, then by escape.

    ``baseline``: what is compared with, in words. ``left_out``: runs that could not be read.
    """

    recipe: str
    baseline: str
    strategies: tuple[StrategyComparison, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __getitem__(self, name: str) -> StrategyComparison:
        for one in self.strategies:
            if one.name == name:
                return one
        raise SpecError(f"no runs of strategy '{name}'{suggest(name, [one.name for one in self.strategies])}")

    @property
    def settings(self) -> dict[str, str]:
        """The keys in which runs differ, each with how it is called for short."""
        return shortened(key for key, _ in self.strategies[0].variant.settings)

    @property
    def sides(self) -> list[list[StrategyComparison]]:
        """Those that are compared with the same one together; others alone."""
        found: dict[str, list[StrategyComparison]] = {}
        for one in self.strategies:
            found.setdefault(one.against or one.name, []).append(one)
        return list(found.values())

    def __repr__(self) -> str:
        runs = sum(len(one.runs) for one in self.strategies)
        names = ", ".join(one.name for one in self.strategies)
        return f"Comparison({self.recipe}: {runs} runs of {names}; against {self.baseline})"

    def _repr_html_(self) -> str:
        tables = [table_html(_head(self, there), [_row(one, there) for one in self.strategies]) for there in MILESTONES]
        return "".join([*tables, *(f"<p>{escape(note)}</p>" for note in self._notes)])

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each strategy and milestone; bounds are NaN, with their ends beside them.

        Raises MissingExtraError without pandas.
        """
        return frame([_plain_row(one, there) for there in MILESTONES for one in self.strategies])

    def as_dict(self) -> dict[str, Any]:
        """An entry of ``comparisons`` in ``summary.json``."""
        strategies = [one.as_dict() for one in self.strategies]
        left_out = [one.as_dict() for one in self.left_out]
        return {"recipe": self.recipe, "baseline": self.baseline, "strategies": strategies, "left_out": left_out}

    @property
    def _notes(self) -> list[str]:
        methods = sorted({run.energy_method for one in self.strategies for run in one.runs})
        notes = [
            f"x: cost of {self.baseline} / cost of {'the row' if self.settings else 'the strategy'}, median over seeds "
            f"in common; > and <: bounds",
            f"joules: {'; '.join(methods)}",
            "in brackets: 95 % intervals; mean: what exceeds the budget counts as the budget",
            *self._of_few_runs,
            *self._of_other_budgets,
        ]
        if any(one.n_lost(milestone) for one in self.strategies for milestone in MILESTONES):
            notes.append(
                "lost: runs that got there and were thrown back; if they did not come again they are not reached"
            )
        if any(one.unfinished for one in self.strategies):
            notes.append("*: unfinished runs, censored where they stopped")
        if any(one.against is None for one in self.strategies):
            notes.append("no x: nothing to compare with, for no run of the baseline learns the same")
        return notes

    @property
    def _of_few_runs(self) -> list[str]:
        if not 1 < min(len(one.runs) for one in self.strategies) < FEWEST_IN_MEDIAN:
            return []
        return [f"no interval of a median below {FEWEST_IN_MEDIAN} runs, nor of steps x below {FEWEST_IN_RATIO} a side"]

    @property
    def _of_other_budgets(self) -> list[str]:
        """A run that has hardly begun must not take from others what is known of them."""
        compared = [one for one in self.strategies if one.savings]
        own = [one.savings["escape"]["steps"].budget for one in compared]
        if own == [one.costs["escape"]["steps"].budget for one in compared]:
            return []
        told = ", ".join(f"{one.name} {budget:,.0f}" for one, budget in zip(compared, own, strict=True))
        return [f"steps x and p: as many steps as the row and what it is compared with are known for: {told}"]

    def __str__(self) -> str:
        tables = [_text_table(self, there) for there in MILESTONES]
        within = {there: [_budget_table(self, side, there) for side in self.sides] for there in MILESTONES}
        told = [text for table, there in zip(tables, MILESTONES, strict=True) for text in (table, *within[there])]
        return "\n\n".join([*filter(None, told), "\n".join(self._notes)])


def compare(runs: Runs, baseline: str = BASELINE) -> Comparison:
    """Compares the strategies among these runs (records, run directories, or folders of them) with ``baseline``.

    Where runs differ in other settings, each choice of these is a row of its own, compared with the baseline's runs
    under the same settings. ``baseline`` may name settings as well, or alone: ``"lr=0.001"``, ``"plain, width=64"``.
    Runs of a single strategy are compared with those of the lowest settings, unless it says otherwise; but never,
    unless it says so, with runs of another task. A damaged run is left out, with a warning. Raises SpecError if there
    is no run, none of the baseline, or two of one spec; DamagedRunsError if none can be read.
    """
    found = summaries(runs)
    return replace(compare_summaries(found, baseline), left_out=found.left_out)


def compare_summaries(runs: Sequence[RunSummary], baseline: str = BASELINE) -> Comparison:
    """The same for runs that have been summarised."""
    groups = by_variant(runs)
    wanted = _wanted([*groups], baseline)
    against = {variant: _reference(variant, groups, wanted) for variant in groups}
    sides: dict[Variant, list[Variant]] = {}
    for variant in sorted(
        groups, key=lambda one: ((against[one] or one).rank, one != against[one], _order(groups[one]))
    ):
        sides.setdefault(against[variant] or variant, []).append(variant)
    compared = [one for members in sides.values() for one in _side(members, groups, against[members[0]])]
    recipes = dict.fromkeys(run.recipe for run in runs)
    return Comparison(", ".join(recipes), _in_words(wanted, [*groups]), tuple(compared))


def comparison_of(runs: Sequence[RunSummary]) -> Comparison | None:
    """With plain training, or what stands for it; None where there is nothing to compare with."""
    told = by_variant(runs)
    alone = len({variant.strategy for variant in told}) == 1 and len(told) > 1
    return compare_summaries(runs) if alone or any(one.strategy == BASELINE for one in told) else None


def by_variant(runs: Sequence[RunSummary]) -> dict[Variant, tuple[RunSummary, ...]]:
    """Runs in order of seed by strategy and by the settings that differ. Raises SpecError for two runs of one spec."""
    groups: dict[Variant, dict[int, RunSummary]] = {}
    told = zip(variants(runs), runs, strict=True)
    for variant, run in sorted(told, key=lambda pair: (pair[0].rank, pair[1].seed)):
        twin = groups.setdefault(variant, {}).setdefault(run.seed, run)
        if twin is not run:
            raise SpecError(
                f"strategy '{variant.name}' has two runs with seed {run.seed}: {twin.record.path} and "
                f"{run.record.path}; name only one of them"
            )
    return {variant: tuple(members.values()) for variant, members in groups.items()}


def by_strategy(runs: Sequence[RunSummary], first: str = BASELINE) -> dict[str, tuple[RunSummary, ...]]:
    """The same by name, in the order in which they are shown: ``first``, then the others by when they escape.

    Where settings differ, in the order of these.
    """
    found = by_variant(runs)
    differ = any(variant.settings for variant in found)

    def place(variant: Variant) -> tuple[Any, ...]:
        own = variant.strategy != first, _order(found[variant]), variant.name
        return (variant.rank[0], *own) if differ else own

    return {variant.name: found[variant] for variant in sorted(found, key=place)}


def _wanted(told: Sequence[Variant], baseline: str) -> dict[str, str]:
    """The strategy (under ``strategy``) and the settings that a baseline names.

    Those of the first variant where there is a single strategy, which is not named. SpecError, with a suggestion.
    """
    strategies, keys = {one.strategy for one in told}, shortened(key for key, _ in told[0].settings)
    if baseline == BASELINE and len(strategies) == 1 and keys:
        return {key: value for key, value in told[0].settings if (key, value) not in told[0].learns}
    full = {**{short: key for key, short in keys.items()}, **{key: key for key in keys}}
    wanted: dict[str, str] = {}
    for part in baseline.split(", "):
        key, _, value = part.partition("=")
        wanted |= {full[key]: value} if key in full else {"strategy": part}
    if not any(wanted.items() <= _parts(one).items() for one in told):
        named = dict.fromkeys(
            [*(one.strategy for one in told), *(f"{keys[k]}={v}" for one in told for k, v in one.settings)]
        )
        raise SpecError(f"baseline: no run of strategy '{baseline}'{suggest(baseline, named)}")
    return wanted


def _parts(variant: Variant) -> dict[str, str]:
    return {"strategy": variant.strategy, **dict(variant.settings)}


def _reference(variant: Variant, groups: Iterable[Variant], wanted: Mapping[str, str]) -> Variant | None:
    """The variant that is like this one in all that the baseline leaves open."""
    looked_for = {**_parts(variant), **wanted}
    return next((one for one in groups if _parts(one) == looked_for), None)


def _in_words(wanted: Mapping[str, str], told: Sequence[Variant]) -> str:
    """``plain with the same lr``."""
    keys = shortened(key for key, _ in told[0].settings)
    named = [value if key == "strategy" else f"{keys[key]}={value}" for key, value in wanted.items()]
    varied = ["strategy"] if len({one.strategy for one in told}) > 1 else []
    same = [keys.get(key, key) for key in (*varied, *keys) if key not in wanted]
    return " with the same ".join(filter(None, [", ".join(named) or "runs", ", ".join(same)]))


def _side(
    members: Sequence[Variant], groups: Mapping[Variant, tuple[RunSummary, ...]], reference: Variant | None
) -> list[StrategyComparison]:
    """Those that are compared with one baseline, in budgets that all of them have."""
    every = [groups[one] for one in members]
    budgets = {(there, what): budget_of(every, there, what) for there in MILESTONES for what in MEASURES}
    baseline = None if reference is None else groups[reference]
    return [_strategy(one, groups[one], reference, baseline, budgets) for one in members]


def experiment(run: RunSummary) -> dict[str, str]:
    """What two runs must share to be comparable, as JSON texts by name."""
    spec = run.record.spec
    shared = {name: spec.get(name) for name in ("recipe", "task", "model", "cut")}
    shared |= {f"train.{name}": spec.get("train", {}).get(name) for name in ("batch_size", "lr", "schedule")}
    return {name: json.dumps(value, sort_keys=True) for name, value in shared.items()}


def _strategy(
    variant: Variant,
    runs: tuple[RunSummary, ...],
    reference: Variant | None,
    baseline: tuple[RunSummary, ...] | None,
    budgets: Mapping[tuple[Milestone, Measure], float | None],
) -> StrategyComparison:
    costs: dict[Milestone, dict[Measure, Cost]] = {there: {} for there in MILESTONES}
    savings: dict[Milestone, dict[Measure, Saving]] = {}
    for (there, what), budget in budgets.items():
        if budget is not None:
            costs[there][what] = cost_of(runs, there, what, budget)
        if baseline is not None and runs is not baseline:
            savings.setdefault(there, {})[what] = saving_of(runs, baseline, there, what)
    return StrategyComparison(variant, runs, None if reference is None else reference.name, costs, savings)


def _order(runs: Sequence[RunSummary]) -> tuple[tuple[bool, float], ...]:
    """Sorts by escape, exact before bound, then by completion."""
    times = [median_time([run.time_of(there) for run in runs]) for there in MILESTONES]
    return tuple((not time.exact, time.low) for time in times)


def _text_table(comparison: Comparison, milestone: Milestone) -> str:
    return _aligned(_head(comparison, milestone), [_row(one, milestone) for one in comparison.strategies])


def _head(comparison: Comparison, milestone: Milestone) -> list[str]:
    keys = comparison.settings.values()
    return [milestone, *keys, "reached", "step (95 %)", *(f"{MEASURES[name]} x" for name in SHOWN)]


def _plain_row(one: StrategyComparison, milestone: Milestone) -> dict[str, Any]:
    saving, time = one.savings.get(milestone, {}), one.times[milestone]
    ratios = {name: saving[name].ratio for name in SHOWN if name in saving}
    return {
        "milestone": milestone,
        "strategy": one.strategy,
        **dict(one.variant.settings),
        "against": one.against,
        "runs": len(one.runs),
        "reached": one.n_reached(milestone),
        "step": time.value,
        "step_low": time.low,
        "step_high": time.high,
        **{f"{name}_x": ratio.value if ratio else None for name, ratio in ratios.items()},
    }


def _row(one: StrategyComparison, milestone: Milestone) -> list[str]:
    reached = f"{one.n_reached(milestone)} of {len(one.runs)}"
    if lost := one.n_lost(milestone):
        reached += f", {lost} lost"
    savings = one.savings.get(milestone)
    ratios = [savings[name].cell.text for name in SHOWN] if savings else [""] * len(SHOWN)
    step, band = one.times[milestone].shown(), one.costs[milestone]["steps"].band
    if band.low or math.isfinite(band.high):
        step += f" ({band.shown()})"
    return [*_row_head(one), reached, step, *ratios]


def _row_head(one: StrategyComparison) -> list[str]:
    return [one.strategy + mark(one.runs), *(value for _, value in one.variant.settings)]


def _budget_table(comparison: Comparison, side: Sequence[StrategyComparison], milestone: Milestone) -> str:
    """Empty where nobody has two runs."""
    if all(len(one.runs) < 2 for one in side):
        return ""
    budget = side[0].costs[milestone]["steps"].budget
    head = [
        f"{milestone} within {budget:,.0f} steps",
        *comparison.settings.values(),
        "share",
        "mean step",
        "steps x",
        "p (log-rank)",
        "p (paired)",
    ]
    rows = []
    for one in side:
        cost, saving = one.costs[milestone]["steps"], one.savings.get(milestone, {}).get("steps")
        ratio = saving.restricted.shown() if saving and saving.restricted else ""
        tests = ["" if p is None else f"{p:.2g}" for p in ((saving.logrank_p, saving.paired_p) if saving else ())]
        rows.append([*_row_head(one), cost.share.shown(2), f"{cost.restricted_mean:,.0f}", ratio, *(tests or ["", ""])])
    return _aligned(head, rows)


def _aligned(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


@dataclass(frozen=True, repr=False)
class Summary:
    """All runs in numbers, and for each experiment that has plain runs a comparison with them.

    ``left_out``: runs that could not be read.
    """

    runs: tuple[RunSummary, ...]
    comparisons: tuple[Comparison, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __repr__(self) -> str:
        return f"Summary({len(self.runs)} runs, {len(self.comparisons)} comparisons)"

    def _repr_html_(self) -> str:
        names = ("seed", "steps", "escape_step", "completion_step", "final_progress")
        told = variants(self.runs)
        rows = [
            [run.strategy, *(value for _, value in variant.settings), *(getattr(run, name) for name in names)]
            for run, variant in zip(self.runs, told, strict=True)
        ]
        keys = shortened(key for key, _ in told[0].settings)
        heads = ["strategy", *keys.values(), *(name.replace("_", " ") for name in names)]
        return table_html(heads, rows, caption=repr(self))

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each run. Raises MissingExtraError without pandas."""
        nested = ("to_escape", "to_completion", "weights_score", "plateau_weights_score", "lost", "plateaus")
        return frame([{k: v for k, v in run.as_dict().items() if k not in nested} for run in self.runs])

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``: plain JSON values, unknown ones are null."""
        return {
            "runs": [one.as_dict() for one in self.runs],
            "comparisons": [one.as_dict() for one in self.comparisons],
            "left_out": [one.as_dict() for one in self.left_out],
        }


def summarise(runs: Runs) -> Summary:
    """These runs in numbers (records, run directories, or folders of them), ordered by experiment, strategy and seed.

    A damaged run is left out, with a warning. Raises SpecError if there is no run, or if an experiment has two runs of
    the same strategy and seed; DamagedRunsError if no run can be read.
    """
    groups: dict[tuple[str, ...], list[RunSummary]] = {}
    found = summaries(runs, lambda run: run.plateaus)
    for run in sorted(found, key=lambda run: (run.recipe, run.strategy, run.seed)):
        groups.setdefault(tuple(experiment(run).values()), []).append(run)
    ordered = [run for members in groups.values() for run in members]
    with_baseline = [members for members in groups.values() if BASELINE in {run.strategy for run in members}]
    return Summary(tuple(ordered), tuple(map(compare_summaries, with_baseline)), found.left_out)
