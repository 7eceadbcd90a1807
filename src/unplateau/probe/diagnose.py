"""What is a model waiting for? Each of the things that in-context learning needs, measured and judged.

A thing is there or missing if its score lies, by two standard errors, above or below a line: a share of the way from
chance (or control, where that is higher) to the best that it can be. In between, or without a score, nobody knows, and
that is what is said.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from unplateau.decompose import Readable, require_readable
from unplateau.errors import DivergedError
from unplateau.layout import Cut, TaskShape
from unplateau.plateau.progress import COMPLETION, ESCAPE
from unplateau.probe.diagnosis import DONE, ORDER, Diagnosis, Finding, Stage, Verdict
from unplateau.probe.labels import Halves, best_binding, labels_are_bound
from unplateau.probe.measure import probe_components
from unplateau.probe.three_things import at_home, taken_apart, three_things
from unplateau.rng import fold_seed
from unplateau.scores import ProbeScore, ScoreKind, Thing
from unplateau.tasks.base import Sampler, Task
from unplateau.tasks.loss import achieved, expected
from unplateau.tensors import Batch

ERRORS = 2.0
LINES: Mapping[Thing, float] = {"items": 0.3, "labels": 0.5, "kept labels": 0.3, "queries": 0.07, "inference": 0.5}
"""How much of a thing is enough, as a share of the way from chance to the best: runs leave their plateau above these
lines, and stay on it below one of them (docs/concepts/three_things.md)."""
LEAST = 0.1
"""What must lie between chance and the best that a score can be, or it tells nothing."""
PROMPTS, AT_ONCE = 512, 64
"""Held-out prompts that progress is measured on."""


def diagnose(
    model: Readable,
    task: Sampler,
    *,
    cut: Cut = "self",
    n_prompts: int = PROMPTS,
    seed: int = 0,
    asked_for: Collection[Thing] = (),
) -> Diagnosis:
    """What this model is waiting for on this task; pure in its arguments, the model is left as it is.

    ``n_prompts`` held-out ones tell its progress, where the task, or that which a TokenTask writes in words, knows its
    exact predictors; scores take a quarter of them, and as many others to choose maps and heads on. ``asked_for``: what
    its training asks for already (``strategy.asked_for``), which changes the advice and nothing else. Raises
    DivergedError for states that are not finite.
    """
    require_readable(model)
    halves = taken_apart(model, task, cut=cut, n_prompts=max(2, n_prompts // 4), seed=seed)
    progress, by_choice = _progress(model, task, n_prompts, seed)
    findings = list(_of_things(model, halves, task, seed))
    if len(task.shape.choices) > 1:
        read = probe_components(model, task, component="context", cut=cut, n_train=4 * n_prompts, n_test=4 * n_prompts)
        findings.append(_finding("inference", read))
    stage = _stage(progress)
    waits = () if stage in DONE else tuple(_missing(findings))
    asked = tuple(thing for thing in ORDER if thing in asked_for)
    known = None if stage == "nothing to learn" else progress
    return Diagnosis(known, by_choice, stage, tuple(findings), waits, asked)


def _stage(progress: float | None) -> Stage:
    if progress is None:
        return "unknown"
    if math.isnan(progress):
        return "nothing to learn"
    return "plateau" if progress < ESCAPE else "on its way" if progress < COMPLETION else "arrived"


def _of_things(model: Readable, halves: Halves, task: Sampler, seed: int) -> Iterable[Finding]:
    shape = task.shape
    scores = three_things(model, halves, shape, range(len(shape.factors)), seed=seed)
    by_kind = {kind: [score for score in scores if score.kind == kind] for kind in get_args(ScoreKind)}
    for factor in (shape.factors[index].name for index in shape.asked):
        if of_one := [score for score in by_kind["few-shot"] if score.factor == factor]:
            found = _finding("items", of_one, factor)
            if shape.layout.in_lists and found.verdict == "missing":
                found = replace(found, verdict="unclear")  # runs leave their plateau there before items stand out
            yield found
    fixed = getattr(task, "n_mappings", None) == 1
    if bound := _readable(by_kind["binding"], model):
        hides = shape.hides_factors and bool(shape.asked) and not fixed  # where a label tells what it hides by itself
        yield _of_labels(model, halves, shape, bound, seed, hides=hides)
    if kept := _readable(by_kind["keep"], model):
        yield _finding("kept labels", kept)
    if by_kind["look"]:
        found = _finding("queries", by_kind["look"])
        if found.verdict == "missing" and fixed:
            found = replace(found, verdict="unclear")  # what a label means is known, so no item like it is needed
        yield found


def _readable(scores: Sequence[ProbeScore], model: Readable) -> list[ProbeScore]:
    """Of labels: what they hold after the last block no query can read any more."""
    return [score for score in scores if score.layer < model.n_layers]


def _of_labels(
    model: Readable, halves: Halves, shape: TaskShape, scores: Sequence[ProbeScore], seed: int, *, hides: bool
) -> Finding:
    """What items can hardly be told from each other cannot be asked of labels, nor more than what the prompt hides."""
    found = _finding("labels", scores)
    if found.verdict == "there":
        return found
    found = _finding("labels", scores, best=best_binding(model, halves, seed=seed))
    if found.verdict != "there" and hides:
        alike = _finding("labels", _readable(labels_are_bound(model, halves, shape, alike=True, seed=seed), model))
        if alike.verdict == "there":
            return replace(alike, alike=True)
    return found


def _finding(thing: Thing, scores: Sequence[ProbeScore], factor: str | None = None, *, best: float = 1.0) -> Finding:
    """From its scores in all layers."""
    top = max(scores, key=lambda score: score.accuracy)
    base = max(top.chance, top.control_accuracy)
    room, above, error = best - base, top.accuracy - base, ERRORS * (top.error or 0.0)
    line = LINES[thing] * room
    verdict: Verdict = "there" if above - error > line else "missing" if above + error < line else "unclear"
    if room < LEAST:
        verdict = "unclear"
    of_top = (top.layer, top.accuracy, top.chance, top.control_accuracy, top.error)
    return Finding(thing, verdict, factor, *of_top, best)


def _missing(findings: Sequence[Finding]) -> Iterable[Thing]:
    """In order; what a prompt hides cannot be inferred as long as anything else is missing."""
    missing = {finding.thing for finding in findings if finding.verdict == "missing"}
    if missing - {"inference"}:
        missing -= {"inference"}
    return [thing for thing in ORDER if thing in missing]


def _progress(model: Readable, task: Sampler, n_prompts: int, seed: int) -> tuple[float | None, dict[str, float]]:
    """Of all prompts, and of those that hide each of several things; None where no predictions are shown, or exact.

    Prompts of a TokenTask are those of its task in words: what is best there is best here.
    """
    exact, shape, parts, hidden = getattr(task, "task", task), task.shape, [], []
    if not isinstance(exact, Task):
        return None, {}
    for step in range(-(-n_prompts // AT_ONCE)):
        draw: dict[str, Any] = {"batch_size": AT_ONCE, "split": "test", "seed": fold_seed(seed, "diagnose")}
        batch = exact.sample(step, **draw)
        shown = batch if exact is task else task.sample(step, **draw)
        with torch.no_grad():
            logits = model(at_home(model, shown).inputs).logits.cpu()
        if shape.n_labels < logits.shape[-1] and (words := getattr(task, "label_tokens", None)):
            logits = logits[..., list(words)]
        if not bool(logits.isfinite().all()):
            raise DivergedError("diagnose: the predictions hold NaN or infinity; the model has diverged")
        if logits.shape[-1] != (1 if shape.labels_are_numbers else shape.n_labels):
            return None, {}
        parts.append(_heights(exact, batch, logits))
        hidden.append(batch.hidden_factor)
    heights, choice = torch.cat(parts, 1), torch.cat(hidden)
    names = dict(zip(shape.asked if shape.hides_factors else range(len(shape.choices)), shape.choices, strict=True))
    by_choice = {name: _between(heights[:, choice == number]) for number, name in names.items()}
    known = {name: value for name, value in by_choice.items() if not math.isnan(value)}
    return _between(heights), known if len(names) > 1 else {}


def _heights(task: Task, batch: Batch, logits: Tensor) -> Tensor:
    """(3, B): what progress is read from, of the model and of the no-context and the Bayes-optimal predictor."""
    numbers = task.shape.labels_are_numbers
    predictions = logits if numbers else logits.double().softmax(-1)
    exact = (task.no_context_predictions(batch), task.bayes_predictions(batch))
    both = [achieved(predictions, batch.targets), *(expected(one, numbers=numbers) for one in exact)]
    chosen = [loss if accuracy is None or task.progress == "loss" else -accuracy for loss, accuracy in both]
    return torch.stack([one.double().mean(1) for one in chosen])


def _between(heights: Tensor) -> float:
    """0 at the no-context predictor, 1 at the Bayes-optimal one; NaN where these are the same, to rounding."""
    model, start, end = heights.mean(1).tolist()
    return float("nan") if math.isclose(start, end, rel_tol=1e-6) else (start - model) / (start - end)
