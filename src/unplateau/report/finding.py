"""What a reader takes away: one sentence and three numbers, which claim no more than was seen."""

from collections.abc import Sequence
from statistics import fmean, median

from unplateau.analysis.columns import with_unit
from unplateau.analysis.compare import BASELINE, Comparison
from unplateau.analysis.runs import Groups, RunSummary
from unplateau.analysis.survival import Bounded, median_time
from unplateau.report.style import printable

Number = tuple[str, str]
"""A number with its unit, and the few words that say what it is."""


def sentence(groups: Groups) -> str:
    """When plain training escaped its plateau, and when the best other strategy did."""
    best = leader(groups)
    all_runs = _all(groups)
    if len(groups) > 1 and not _n_escaped(all_runs):
        none = "Neither" if len(all_runs) == 2 else "None"
        what = f"{len(groups)} {noun(groups, many=True)}"
        return f"{none} of {len(all_runs)} runs with {what} had escaped its plateau {_by(all_runs)}."
    others = {name: runs for name, runs in groups.items() if name != BASELINE}
    parts = [f"plain training {_escape_words(groups[BASELINE])}"] if BASELINE in groups else []
    if best is None and len(others) > 1:
        rest = _all(others)
        parts.append(f"none of {len(rest)} runs with {len(others)} other {noun(groups, many=True)} had {_by(rest)}")
    elif others:
        name = best or next(iter(others))
        parts.append(f"with {printable(name)}{_first_words(groups, name)} training {_escape_words(others[name])}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def numbers(groups: Groups, comparison: Comparison | None) -> list[Number]:
    """FLOPs to the escape, its step, and the final accuracy or progress: of the best strategy that is not plain.

    Of plain training, or the first strategy, if none escaped. What is not known is left out.
    """
    best = leader(groups)
    name = best or next(iter(groups))
    saving = comparison[best].savings.get("escape", {}).get("train_flops") if comparison and best else None
    against = (comparison[name].against if comparison else None) or BASELINE
    found = [
        saving_number(saving.ratio if saving else None, name, against) or _flops_number(name, groups[name]),
        _step_number(name, groups),
        _final_number(name, groups[name]),
    ]
    return [number for number in found if number]


def leader(groups: Groups) -> str | None:
    """The strategy, other than plain training, that escaped first; None if none did."""
    escaped = [name for name, runs in groups.items() if name != BASELINE and _n_escaped(runs)]
    return min(escaped, key=lambda name: (not _escape(groups[name]).exact, _escape(groups[name]).low), default=None)


def noun(groups: Groups, *, many: bool = False) -> str:
    """What tells these groups apart: the strategy, or settings as well."""
    if all(name == run.strategy for name, runs in groups.items() for run in runs):
        return "strategies" if many else "strategy"
    return "settings" if many else "row"


def saving_number(ratio: Bounded | None, strategy: str, against: str = BASELINE) -> Number | None:
    """How many times fewer FLOPs than the baseline, or as many; None where it is open which side needs more."""
    if ratio is None:
        return None
    if ratio.low >= 1.05:  # below, it would be shown as 1.0 times fewer
        return _times(ratio), f"fewer FLOPs to escape {_with(strategy)} than {_with(against)}"
    if ratio.high < 1.05:
        inverse = Bounded.exactly(1.0).over(ratio)
        return _times(inverse), f"as many FLOPs to escape {_with(strategy)} as {_with(against)}"
    return None


def seeds_words(runs: Sequence[RunSummary]) -> str:
    """``seed 0``, or ``2 seeds``."""
    return f"seed {runs[0].seed}" if len(runs) == 1 else f"{len(runs)} seeds"


def _times(ratio: Bounded) -> str:
    return ratio.shown(1).replace("> ", "at least ").replace("< ", "at most ") + "\N{MULTIPLICATION SIGN}"


def _with(strategy: str) -> str:
    return "with plain training" if strategy == BASELINE else f"with {printable(strategy)}"


def _all(groups: Groups) -> list[RunSummary]:
    return [run for runs in groups.values() for run in runs]


def _n_escaped(runs: Sequence[RunSummary]) -> int:
    return sum(run.escape_step is not None for run in runs)


def _escape(runs: Sequence[RunSummary]) -> Bounded:
    return median_time([run.time_of("escape") for run in runs])


def _first_words(groups: Groups, best: str) -> str:
    """``, the first of 3 other strategies,``; a mere comma where another one may have been as early."""
    late = [_escape(groups[best]).high < _escape(groups[name]).low for name in groups if name not in (best, BASELINE)]
    strategies = f"{'other ' if BASELINE in groups else ''}{noun(groups, many=True)}"
    return f", the first of {len(late) + 1} {strategies}," if late and all(late) else ","


def _escape_words(runs: Sequence[RunSummary]) -> str:
    steps = sorted(run.escape_step for run in runs if run.escape_step is not None)
    if not steps:
        seeds = f" in {'either' if len(runs) == 2 else 'any'} of {len(runs)} seeds" if len(runs) > 1 else ""
        return f"had not escaped its plateau {_by(runs)}{seeds}"
    if len(steps) == len(runs):
        return f"escaped at step {median(steps):,.0f}{f' (median of {len(runs)} seeds)' if len(runs) > 1 else ''}"
    where = f"step {steps[0]:,}" if steps[0] == steps[-1] else f"steps {steps[0]:,} to {steps[-1]:,}"
    return f"escaped in {len(steps)} of {len(runs)} seeds, at {where}"


def _by(runs: Sequence[RunSummary]) -> str:
    first, last = min(run.steps for run in runs), max(run.steps for run in runs)
    return f"by step {last:,}" if first == last else f"by the last step ({first:,} to {last:,})"


def _flops_number(name: str, runs: Sequence[RunSummary]) -> Number | None:
    """Up to the escape if all escaped, else of a whole run."""
    ends = [run.costs_to["escape"] for run in runs]
    what = "in a whole run" if None in ends else "to escape"
    costs = [run.costs if None in ends else end for run, end in zip(runs, ends, strict=True)]
    known = [one.train_flops for one in costs if one is not None and one.train_flops is not None]
    return (with_unit(median(known), "FLOP"), f"of training {what} {_with(name)}") if known else None


def _step_number(name: str, groups: Groups) -> Number:
    words = f"of the escape {_with(name)}"
    if name != BASELINE and BASELINE in groups:
        words += f"; {_with(BASELINE)}: {_escape(groups[BASELINE]).shown()}"
    return f"step {_escape(groups[name]).shown()}", words


def _final_number(name: str, runs: Sequence[RunSummary]) -> Number | None:
    """Accuracy where labels have one, else progress."""
    accuracies = [run.final_accuracy for run in runs if run.final_accuracy is not None]
    values = accuracies or [run.final_progress for run in runs if run.final_progress is not None]
    if not values:
        return None
    bayes = fmean(run.bayes_accuracy for run in runs if run.bayes_accuracy is not None) if accuracies else 1.0
    measure = "accuracy" if accuracies else "progress"
    what = f"final {measure}" if all(run.finished for run in runs) else f"{measure} so far"
    return f"{median(values):.2f}", f"{what} {_with(name)}; Bayes-optimal: {bayes:.2f}"
