"""What is a model waiting for? Each of the things that in-context learning needs, measured and judged.

A thing is there or missing if its score lies, by two standard errors, above or below a line: a share of the way from
chance (or control, where that is higher) to the best that it can be. In between, or without a score, nobody knows, and
that is what is said.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import get_args

import torch

from unplateau.decompose import Readable, require_readable
from unplateau.layout import Cut, TaskShape
from unplateau.probe.diagnosis import DONE, ERRORS, ORDER, Diagnosis, Finding, Verdict
from unplateau.probe.labels import Halves, best_binding, labels_are_bound
from unplateau.probe.measure import probe_components
from unplateau.probe.standing import standing
from unplateau.probe.three_things import taken_apart, three_things
from unplateau.rng import fold_seed
from unplateau.scores import ProbeScore, ScoreKind, Thing
from unplateau.tasks.base import AT_ONCE, Sampler, exact_task

LINES: Mapping[Thing, float] = {"items": 0.3, "labels": 0.5, "kept labels": 0.3, "queries": 0.07, "inference": 0.5}
"""How much of a thing is enough, as a share of the way from chance to the best: runs leave their plateau above these
lines, and stay on it below one of them (docs/concepts/three_things.md)."""
LEAST = 0.1
"""What must lie between chance and the best that a score can be, or it tells nothing."""
PROMPTS = 512
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
    reached = standing(model, task, n_prompts=n_prompts, seed=seed)
    findings = list(_of_things(model, halves, task, seed))
    if len(task.shape.choices) > 1:
        read = probe_components(
            model, task, component="context", cut=cut, n_train=4 * n_prompts, n_test=4 * n_prompts, seed=seed
        )
        findings.append(_finding("inference", read, best=_best_inference(task, n_prompts, seed)))
    waits = () if reached.stage in DONE else tuple(_missing(findings))
    return Diagnosis(reached, tuple(findings), waits, tuple(thing for thing in ORDER if thing in asked_for))


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


def _best_inference(task: Sampler, n_prompts: int, seed: int) -> float:
    """The context score of who knows exactly how probable each choice is, which few pairs hardly tell."""
    if (exact := exact_task(task)) is None:
        return 1.0
    batch = exact.sample(0, batch_size=n_prompts, split="test", seed=fold_seed(seed, "best"))
    best = []
    for rows in torch.arange(n_prompts).split(AT_ONCE):
        if (chances := exact.choice_chances(batch.map(partial(torch.index_select, dim=0, index=rows)))) is None:
            return 1.0
        best.append(chances[:, chances.shape[1] // 2 :].amax(2))  # the queries that the context score is of
    return float(torch.cat(best).mean())


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
