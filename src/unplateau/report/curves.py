"""Which panels a report has, in its order, and what is in them."""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unplateau.analysis.runs import Groups, RunSummary
from unplateau.plateau.detect import Plateau
from unplateau.plateau.progress import COMPLETION, ESCAPE, Floats, trailing_means
from unplateau.report.panels import (
    MOST_COLUMNS,
    AnyPanel,
    CurvePanel,
    HeatPanel,
    Line,
    OverviewPanel,
    flat_words,
    layer_name,
    merged,
)
from unplateau.report.style import Look, looks, printable

THREE_THINGS = {
    "items-stand-out": ("few_shot", "few-shot score"),
    "labels-are-bound": ("binding", "binding score"),
    "labels-are-kept": ("keep", "keep score"),
    "queries-look": ("look", "look score"),
}
"""Figures of the three things that in-context learning waits for: their columns begin so, and what they are called."""

CONTEXT_SPREAD = 0.05
"""Standard deviation of a context score from one batch of test prompts to another, as training looks at it."""


def all_panels(groups: Groups) -> dict[str, list[AnyPanel]]:
    """The panels of each figure of a report by its name; those of scores are left out for strategies without probes."""
    look = looks(list(groups))
    panels: dict[str, list[AnyPanel]] = {
        "progress-by-step": [_overview(groups, look, "step")],
        "progress-by-compute": [_overview(groups, look, "compute")],
        "loss": [_curves(groups, name, look[name], "loss") for name in groups],
    }
    if all(run.bayes_accuracy is not None for runs in groups.values() for run in runs):
        panels["accuracy"] = [_curves(groups, name, look[name], "accuracy") for name in groups]
    if with_probes := [name for name in groups if any(run.weights_score for run in groups[name])]:
        panels["weights-score"] = [_scores(groups, name, look[name], "weights") for name in with_probes]
        if all("context_score" in run.columns for name in with_probes for run in groups[name]):
            panels["context-score"] = [_scores(groups, name, look[name], "context") for name in with_probes]
        panels["layers"] = [_layers(groups, name) for name in with_probes]
    for figure, (part, words) in THREE_THINGS.items():
        seen = {name: [run for run in groups[name] if f"{part}_score" in run.columns] for name in groups}
        found = [_best_layer(groups, name, look[name], seen[name], part, words) for name in groups if seen[name]]
        if found:
            panels[figure] = [*found]
    return panels


def context_at_chance(groups: Groups) -> bool:
    """Whether the context score that is shown ends near chance, or near its control, in all runs.

    Near is within twice its spread; the last quarter of the looks, averaged, counts as the end.
    """
    return not any(_context_above_chance(run) for runs in groups.values() for run in runs if run.weights_score)


def _context_above_chance(run: RunSummary) -> bool:
    scores, controls, chances = (run.columns[f"context_{name}"][1] for name in ("score", "control", "chance"))
    if not scores.size:
        return False
    last = -max(1, len(scores) // 4)
    score, control = (fmean(at[run.block] for at in column[last:]) for column in (scores, controls))
    return bool(score > max(control, chances[-1]) + 2 * CONTEXT_SPREAD)


def _overview(groups: Groups, look: dict[str, Look], by: Literal["step", "compute"]) -> OverviewPanel:
    label = "step" if by == "step" else "training compute (TFLOP)"
    drawn = tuple((name, look[name], tuple(_progress_line(run, by) for run in runs)) for name, runs in groups.items())
    words = " ".join(_progress_words(name, runs, by) for name, runs in groups.items())
    ends = [line.x[-1] for _, _, lines in drawn for line in lines if line.x.size]
    return OverviewPanel(
        title="by step" if by == "step" else "by training compute",
        alt=f"Progress of all strategies against {label}. {words}",
        x_label=label,
        y_label="progress",
        limits=(0.0, max(ends, default=0) or 1.0, -0.12, 1.12),
        levels={"completion": COMPLETION, "escape": ESCAPE},
        groups=drawn,
    )


def _progress_line(run: RunSummary, by: Literal["step", "compute"]) -> Line:
    steps, progress = run.columns["progress"]
    along, unit = (steps, 1.0) if by == "step" else (_compute_at(run, steps), 1e12)
    known = ~np.isnan(along)
    x, y = merged(along[known] / unit, trailing_means(steps[known], progress[known]))
    costs = run.costs_to["escape"]
    escape = None if costs is None else costs.steps if by == "step" else costs.train_flops
    mark = None if escape is None else (escape / unit, ESCAPE)
    return Line(run.seed, x, y, mark=mark)


def _compute_at(run: RunSummary, steps: NDArray[np.int64]) -> Floats:
    """FLOPs of training up to each of these steps, NaN where they were not recorded."""
    known, flops = run.columns["train_flops"]
    at = dict(zip(known.tolist(), flops.tolist(), strict=True))
    return np.array([at.get(step, np.nan) for step in steps.tolist()])


def _progress_words(name: str, runs: Sequence[RunSummary], by: Literal["step", "compute"]) -> str:
    parts = []
    for run in runs:
        costs = run.costs_to["escape"] or run.costs
        where = f"step {costs.steps:,}" if by == "step" else f"{(costs.train_flops or 0) / 1e12:.3g} TFLOP"
        escape = f"no escape by {where}" if run.escape_step is None else f"escape at {where}"
        end = "" if run.final_progress is None else f", final progress {run.final_progress:.2f}"
        parts.append(f"seed {run.seed} {escape}{end}")
    return f"{printable(name)}: {'; '.join(parts)}."


def _curves(groups: Groups, name: str, look: Look, measure: Literal["loss", "accuracy"]) -> CurvePanel:
    floors = groups[name][0].record.floors
    levels = dict(zip(("no context", "Bayes-optimal"), floors.levels(measure), strict=True))
    lines = tuple(_line(run, *run.columns[measure], run.plateaus) for run in groups[name])
    words = f"{_levels_words(levels)} {' '.join(map(_curve_words, lines))}"
    return CurvePanel(
        strategy=name,
        title=printable(name),
        alt=f"{measure.capitalize()} of {printable(name)} against step. {words}",
        x_label="step",
        y_label=f"loss ({floors.loss_unit})" if measure == "loss" else "accuracy",
        limits=(0.0, _last_step(groups), *_limits(groups, measure, levels)),
        look=look,
        levels=levels,
        lines=lines,
    )


def _line(run: RunSummary, steps: ArrayLike, values: ArrayLike, plateaus: Sequence[Plateau] = ()) -> Line:
    """A curve over steps with its plateaus and the point of escape on it."""
    x, y = merged(steps, values)
    escape = run.escape_step
    mark = None if escape is None or not x.size else (float(escape), float(np.interp(escape, x, y)))
    return Line(run.seed, x, y, tuple(plateaus), mark)


def _curve_words(line: Line) -> str:
    if not line.y.size:
        return f"Seed {line.seed} has no rows yet."
    plateau = ", ".join(flat_words(one) for one in line.plateaus) or "no plateau"
    escape = f"escape at step {line.mark[0]:,.0f}" if line.mark else "no escape"
    return f"Seed {line.seed}: {line.y[0]:.2f} at first, {line.y[-1]:.2f} at the end, {plateau}, {escape}."


def _levels_words(levels: dict[str, float]) -> str:
    return "; ".join(f"{name} {value:.2f}" for name, value in levels.items()).capitalize() + "."


def _limits(groups: Groups, measure: str, levels: dict[str, float]) -> tuple[float, float]:
    """Both levels with some air, and the bulk of all values up to half as far again: a few may lie far outside."""
    low, high = min(levels.values()), max(levels.values())
    span = (high - low) or 1.0
    lowest, highest, air = low - 0.5 * span, high + 0.5 * span, 0.14 * span
    values = np.concatenate([run.columns[measure][1] for runs in groups.values() for run in runs])
    if values.size:
        low, high = min(low, float(np.quantile(values, 0.01))), max(high, float(np.quantile(values, 0.98)))
    return max(low, lowest) - air, min(high, highest) + air


def _last_step(groups: Groups) -> float:
    return float(max(run.steps for runs in groups.values() for run in runs) or 1)


def _scores(groups: Groups, name: str, look: Look, part: Literal["weights", "context"]) -> CurvePanel:
    runs = [run for run in groups[name] if run.weights_score]
    block = runs[0].block
    lines, controls = (
        tuple(_score_line(run, f"{part}_{column}", block) for run in runs) for column in ("score", "control")
    )
    levels = {"chance": _chance(runs, part)}
    ends = "; ".join(
        f"seed {line.seed} {line.y[0]:.2f} at first, {line.y[-1]:.2f} at the end, control {control.y[-1]:.2f}"
        for line, control in zip(lines, controls, strict=True)
    )
    what = f"{part.capitalize()} score of {layer_name(block)} of {printable(name)} under cut {runs[0].cut} against step"
    alt = f"{what}. {_levels_words(levels)} {ends.capitalize()}."
    return _score_panel(groups, name, look, alt, f"{part} score", levels, lines, controls)


def _best_layer(groups: Groups, name: str, look: Look, runs: Sequence[RunSummary], part: str, words: str) -> CurvePanel:
    """At each step of the layer that has most of it, and the control of the same layer."""
    lines, controls = [], []
    for run in runs:
        steps, scores = run.columns[f"{part}_score"]
        _, control = run.columns[f"{part}_control"]
        best = np.argmax(scores, axis=1)[:, None]
        lines.append(_line(run, steps, np.take_along_axis(scores, best, axis=1)[:, 0]))
        controls.append(_line(run, steps, np.take_along_axis(control, best, axis=1)[:, 0]))
    levels = {"chance": _chance(runs, part)}
    ends = "; ".join(f"seed {line.seed} {line.y[0]:.2f} at first, {line.y[-1]:.2f} at the end" for line in lines)
    what = f"{words.capitalize()} of {printable(name)} against step, best layer"
    alt = f"{what}. {_levels_words(levels)} {ends.capitalize()}."
    return _score_panel(groups, name, look, alt, words, levels, lines, controls)


def _score_panel(
    groups: Groups,
    name: str,
    look: Look,
    alt: str,
    y_label: str,
    levels: dict[str, float],
    lines: Sequence[Line],
    controls: Sequence[Line],
) -> CurvePanel:
    return CurvePanel(
        strategy=name,
        title=printable(name),
        alt=alt,
        x_label="step",
        y_label=y_label,
        limits=(0.0, _last_step(groups), 0.0, 1.04),
        look=look,
        levels=levels,
        lines=tuple(lines),
        controls=tuple(controls),
    )


def _score_line(run: RunSummary, column: str, block: int) -> Line:
    steps, scores = run.columns[column]
    return _line(run, steps, scores[:, block] if scores.size else [])


def _chance(runs: Sequence[RunSummary], part: str) -> float:
    """Mean over the runs of what was last measured."""
    return fmean(run.columns[f"{part}_chance"][1][-1] for run in runs)


def _layers(groups: Groups, name: str) -> HeatPanel:
    runs = [run for run in groups[name] if run.weights_score]
    steps, values = _mean_scores(runs)
    ends = f"from step {steps[0]:,.0f} to step {steps[-1]:,.0f}"
    words = "; ".join(f"{layer_name(layer)} {row[0]:.2f} to {row[-1]:.2f}" for layer, row in enumerate(values))
    chance = _chance(runs, "weights")
    seeds = f"mean of {len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].seed}"
    x, columns = merged(steps, values, MOST_COLUMNS)
    half_way = (x[1:] + x[:-1]) / 2
    return HeatPanel(
        strategy=name,
        title=printable(name),
        alt=f"Weights score of every layer of {printable(name)} {ends}, cut {runs[0].cut}, {seeds}, "
        f"chance {chance:.2f}: {words}.",
        x_label="step",
        y_label="block",
        limits=(0.0, _last_step(groups), -0.5, len(values) - 0.5),
        steps=x,
        edges=np.concatenate([[steps[0]], half_way, [max(steps[-1], steps[0] + 1)]]),
        values=columns,
        colours=(chance, 1.0),
        marks=tuple(float(run.escape_step) for run in runs if run.escape_step is not None),
    )


def _mean_scores(runs: Sequence[RunSummary]) -> tuple[Floats, Floats]:
    """Steps, and (L + 1, steps) means over the runs that were probed there."""
    by_step: dict[int, list[Floats]] = {}
    for run in runs:
        for step, score in zip(*run.columns["weights_score"], strict=True):
            by_step.setdefault(step, []).append(score)
    steps = sorted(by_step)
    return np.asarray(steps, dtype=np.float64), np.stack([np.mean(by_step[step], axis=0) for step in steps], axis=1)
