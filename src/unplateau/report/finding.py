"""The finding in sentences that claim no more than was seen."""

from collections.abc import Sequence
from statistics import median

from unplateau.analysis.compare import Comparison, StrategyComparison
from unplateau.analysis.runs import MILESTONES, Groups, Milestone, RunSummary
from unplateau.analysis.survival import Bounded
from unplateau.report.style import printable


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
        sentences = [_reached_sentence(_subject(name), runs) + "." for name, runs in groups.items()]
        return [*sentences, *_median_sentence(groups)]
    baseline, *others = comparison.strategies
    sentences = [_reached_sentence(_subject(baseline.strategy), baseline.runs) + "."]
    sentences += [
        _reached_sentence(f"With {printable(one.strategy)} it", one.runs) + _saving_words(one) + "." for one in others
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


def _reached_sentence(subject: str, runs: Sequence[RunSummary]) -> str:
    escaped, completed = ([run.reached(milestone) for run in runs] for milestone in MILESTONES)
    if all(step is None for step in escaped):
        return f"{subject} had not escaped its plateau {_never_words(runs)}"
    escape = _when_words("escaped", escaped)
    if all(step is None for step in completed):
        return f"{subject} {escape} but had not completed {_never_words(runs)}"
    return f"{subject} {escape} and {_when_words('completed', completed).removesuffix(',')}"


def _never_words(runs: Sequence[RunSummary]) -> str:
    first, last = min(run.steps for run in runs), max(run.steps for run in runs)
    by = f"by step {last:,}" if first == last else f"by the last step ({first:,} to {last:,})"
    if len(runs) == 1:
        return by
    return f"{by} in {'either' if len(runs) == 2 else 'any'} of {len(runs)} seeds"


def _when_words(verb: str, steps: Sequence[int | None]) -> str:
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
    milestone: Milestone = "completion" if one.n_reached("completion") else "escape"
    if not one.n_reached(milestone):
        return ""
    savings = one.savings[milestone]
    known = [ratio_words(savings["steps"].ratio, "steps"), ratio_words(savings["train_flops"].ratio, "FLOPs")]
    words = " and ".join(filter(None, known))
    return f": {words} to {milestone}" if words else ""


def _score_sentence(groups: Groups, comparison: Comparison) -> list[str]:
    plain = [run for run in groups[comparison.baseline] if run.plateau_weights_score]
    best = next((one for one in comparison.strategies[1:] if one.n_reached("escape")), None)
    repaired = [run for run in best.runs if run.plateau_weights_score] if best else []
    if not plain or not repaired or best is None:
        return []
    block = plain[0].block
    before, after = (median(run.plateau_weights_score[block] for run in runs) for runs in (plain, repaired))
    return [
        f"While {printable(comparison.baseline)} training was on its plateau, the weights score of block {block} "
        f"(cut {plain[0].cut}) stood at {before:.2f}; with {printable(best.strategy)} it was {after:.2f} at the last "
        f"probing before the escape."
    ]
