"""The finding in sentences, and numbers as people write them.

What enters: the runs of each strategy and their comparison. What leaves: sentences that claim no more than was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from unplateau.analysis.compare import Comparison, StrategyComparison
from unplateau.analysis.runs import EVENTS, Event, RunSummary
from unplateau.analysis.survival import Bounded
from unplateau.report.curves import Groups, block_of
from unplateau.report.style import printable

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def with_unit(value: float | None, unit: str) -> str:
    """``5.00 TFLOP``, ``900 J``; a dash where there is no value."""
    if value is None:
        return "–"  # noqa: RUF001
    power = 0 if value < 1000 else min(len(_PREFIXES) - 1, int(math.log10(value) // 3))
    scaled = value / 1000**power
    digits = 0 if scaled >= 99.5 else 1 if scaled >= 9.95 else 2
    return f"{scaled:,.{digits}f} {_PREFIXES[power]}{unit}"


def ratio_words(ratio: Bounded | None, noun: str) -> str | None:
    """``3.1 times fewer steps``, or ``at least 3.1 ...``; None where it is open which side needs more."""
    if ratio is None:
        return None
    if ratio.low >= 1:
        return f"{_times(ratio)} fewer {noun}"
    if ratio.high <= 1:
        return f"{_times(Bounded.exactly(1.0).over(ratio))} as many {noun}"
    return None


def finding(groups: Groups, comparison: Comparison | None) -> list[str]:
    """The finding: a sentence on plain training, one on each other strategy, and one on the weights score."""
    if comparison is None:
        sentences = [_event_sentence(_subject(name), runs) + "." for name, runs in groups.items()]
        return [*sentences, *_median_sentence(groups)]
    baseline, *others = comparison.strategies
    sentences = [_event_sentence(_subject(baseline.strategy), baseline.runs) + "."]
    sentences += [
        _event_sentence(f"With {printable(one.strategy)} it", one.runs) + _saving_words(one) + "." for one in others
    ]
    return [*sentences, *_score_sentence(groups, comparison), *_median_sentence(groups)]


def seeds_words(runs: Sequence[RunSummary]) -> str:
    """``seed 0``, or ``2 seeds``."""
    return f"seed {runs[0].seed}" if len(runs) == 1 else f"{len(runs)} seeds"


def _times(ratio: Bounded) -> str:
    text = ratio.shown(1)
    if text.startswith("> "):
        return f"at least {text[2:]} times"
    return f"at most {text[2:]} times" if text.startswith("< ") else f"{text} times"


def _subject(strategy: str) -> str:
    return "Plain training" if strategy == "plain" else f"With {printable(strategy)}, training"


def _event_sentence(subject: str, runs: Sequence[RunSummary]) -> str:
    escaped, completed = ([run.reached(event) for run in runs] for event in EVENTS)
    if all(step is None for step in escaped):
        return f"{subject} had not escaped its plateau {_never_words(runs)}"
    escape = _reached_words("escaped", escaped)
    if all(step is None for step in completed):
        return f"{subject} {escape} but had not completed {_never_words(runs)}"
    return f"{subject} {escape} and {_reached_words('completed', completed).removesuffix(',')}"


def _never_words(runs: Sequence[RunSummary]) -> str:
    first, last = min(run.steps for run in runs), max(run.steps for run in runs)
    by = f"by step {last:,}" if first == last else f"by the last step ({first:,} to {last:,})"
    if len(runs) == 1:
        return by
    return f"{by} in {'either' if len(runs) == 2 else 'any'} of {len(runs)} seeds"


def _reached_words(verb: str, steps: Sequence[int | None]) -> str:
    known = sorted(step for step in steps if step is not None)
    if len(known) == len(steps):
        return f"{verb} at step {median(known):,.0f}"
    where = f"step {known[0]:,}" if known[0] == known[-1] else f"steps {known[0]:,} to {known[-1]:,}"
    return f"{verb} in {len(known)} of {len(steps)} seeds, at {where},"


def _median_sentence(groups: Groups) -> list[str]:
    sizes = {len(runs) for runs in groups.values()}
    if sizes == {1}:
        return []
    return [f"(Steps are medians over {f'{sizes.pop()} seeds' if len(sizes) == 1 else 'the seeds of each strategy'}.)"]


def _saving_words(one: StrategyComparison) -> str:
    """``: 3.1 times fewer steps and 2.9 times fewer FLOPs to completion``, as far as known."""
    event: Event = "completion" if one.n_reached("completion") else "escape"
    if not one.n_reached(event):
        return ""
    savings = one.savings[event]
    known = [ratio_words(savings["steps"].ratio, "steps"), ratio_words(savings["train_flops"].ratio, "FLOPs")]
    words = " and ".join(filter(None, known))
    return f": {words} to {event}" if words else ""


def _score_sentence(groups: Groups, comparison: Comparison) -> list[str]:
    plain = [run for run in groups[comparison.baseline] if run.plateau_weights_score]
    best = next((one for one in comparison.strategies[1:] if one.n_reached("escape")), None)
    repaired = [run for run in best.runs if run.plateau_weights_score] if best else []
    if not plain or not repaired or best is None:
        return []
    block = block_of(plain[0])
    before, after = (median(run.plateau_weights_score[block] for run in runs) for runs in (plain, repaired))
    return [
        f"While {printable(comparison.baseline)} training was on its plateau, the weights score of block {block} "
        f"(cut {plain[0].cut}) stood at {before:.2f}; with {printable(best.strategy)} it was {after:.2f} at the last "
        f"probing before the escape."
    ]
