"""What is a model waiting for? Each of the things that in-context learning needs, with its number, control and advice.

A thing is there or missing if its score lies, by two standard errors, above or below a line: a share of the way from
chance (or control, where that is higher) to the best that it can be. In between, or without a score, nobody knows, and
that is what is said.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from unplateau.decompose import Readable, require_readable
from unplateau.errors import DivergedError
from unplateau.layout import Cut, TaskShape
from unplateau.plateau.progress import COMPLETION, ESCAPE
from unplateau.probe.labels import Halves, best_binding, labels_are_bound, labels_are_kept
from unplateau.probe.measure import probe_components
from unplateau.probe.three_things import at_home, taken_apart, three_things
from unplateau.rng import fold_seed
from unplateau.scores import ProbeScore, ScoreKind, Thing
from unplateau.tasks.base import Sampler, Task
from unplateau.tasks.loss import achieved, expected
from unplateau.tensors import Batch

ORDER: tuple[Thing, ...] = get_args(Thing)
Verdict = Literal["there", "missing", "unclear"]
Stage = Literal["plateau", "on its way", "arrived", "nothing to learn", "unknown"]
ERRORS = 2.0
LINES: Mapping[Thing, float] = {"items": 0.3, "labels": 0.5, "kept labels": 0.3, "queries": 0.07, "inference": 0.5}
"""How much of a thing is enough, as a share of the way from chance to 1: runs leave their plateau above these lines,
and stay on it below one of them (docs/concepts/three_things.md)."""
LEAST = 0.1
"""What must lie between chance and the best that a score can be, or it tells nothing."""
PROMPTS, AT_ONCE = 512, 64
"""Held-out prompts that progress is measured on."""


@dataclass(frozen=True)
class Finding:
    """One thing: its score in the layer where it is highest; ``factor`` for items that should stand out by it.

    ``best``: what the score can be at most. ``alike``: of labels that need to name one of the items like their own.
    ``nowhere``: of kept labels that cannot be told from the embedding either.
    """

    thing: Thing
    verdict: Verdict
    factor: str | None
    layer: int
    score: float
    chance: float
    control: float
    error: float | None
    best: float = 1.0
    alike: bool = False
    nowhere: bool = False

    @property
    def sentence(self) -> str:
        """In words, with its number and its control."""
        error = "" if self.error is None else f" ± {self.error:.2f}"
        where = "embedding" if self.layer == 0 else f"block {self.layer}"
        beside = f"{where}; chance {self.chance:.2f}, control {self.control:.2f}"
        beside += f", possible {self.best:.2f}" if self.best < 1 else ""
        beside += "; items alike in what is hidden count as one" if self.alike else ""
        beside += "; nor from the embedding" if self.nowhere else ""
        says = _SAYS[self.thing][self.verdict].format(self.factor)
        return f"{says}: {_MEASURE[self.thing]} {self.score:.2f}{error} at best ({beside})."

    @property
    def advice(self) -> str:
        """What to try where it is missing."""
        return _TRY[self.thing] if self.verdict == "missing" else ""


DONE: tuple[Stage, ...] = ("arrived", "nothing to learn")
"""Stages in which a model waits for nothing."""
_STAGES: Mapping[Stage, str] = {
    "plateau": "It is on its plateau",
    "on its way": "It has left its plateau and has not arrived",
    "arrived": "It has arrived",
}
_MEASURE: Mapping[Thing, str] = {
    "items": "few-shot score",
    "labels": "binding score",
    "kept labels": "keep score",
    "queries": "look score",
    "inference": "context score",
}
_SAYS: Mapping[Thing, Mapping[Verdict, str]] = {
    "items": {
        "there": "Items stand out by {}",
        "missing": "Items do not stand out by {}",
        "unclear": "Whether items stand out by {} is not clear",
    },
    "labels": {
        "there": "Labels are bound to their items",
        "missing": "Labels are not bound to their items",
        "unclear": "Whether labels are bound to their items is not clear",
    },
    "kept labels": {
        "there": "Labels are kept beside what is bound to them",
        "missing": "Labels are drowned by what is bound to them: their states no longer tell which label it is",
        "unclear": "Whether labels are kept beside what is bound to them is not clear",
    },
    "queries": {
        "there": "Queries look at the labels of items like their own",
        "missing": "Queries do not look at the labels of items like their own",
        "unclear": "Whether queries look at the labels of items like their own is not clear",
    },
    "inference": {
        "there": "What the prompt hides is inferred",
        "missing": "What the prompt hides is not inferred",
        "unclear": "Whether what the prompt hides is inferred is not clear",
    },
}
_TRY: Mapping[Thing, str] = {
    "items": "MatchLoss, which needs no annotation; WeightsLoss or ComponentLoss where the factors are known",
    "labels": "BindLoss, or labels that carry their items (labels_carry_items)",
    "kept labels": "KeepLoss, or larger embeddings of labels at first (model.label_gain; init scaled)",
    "queries": "LookLoss",
    "inference": "Mixed or a warm-up on a fixed mapping, from which it is easier to infer; or more pairs in a prompt",
}
_AND_KEPT = ", and KeepLoss, since what a query would read is drowned"
"""Either may be enough, and queries that look at what is drowned may read nothing."""


@dataclass(frozen=True)
class Diagnosis:
    """``progress`` on held-out prompts, and ``by_choice``: where a prompt hides one of several; None if not known.

    ``findings``: of all things that have a score. ``waits_for``: those that are missing, the first in the order items,
    labels, queries, kept labels, inference being the one to begin with; empty where nothing is, or nobody can tell.
    ``asked_for``: what a loss of the training asks for already, which is then not advised.
    """

    progress: float | None
    by_choice: Mapping[str, float]
    stage: Stage
    findings: tuple[Finding, ...]
    waits_for: tuple[Thing, ...]
    asked_for: tuple[Thing, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """All of it in words."""
        told = [finding.sentence for finding in self.findings]
        return [self._opening, *self._choices, *told, *self._not_measured, *self._conclusion]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, the sentences included."""
        each = [{**asdict(one), "sentence": one.sentence, "advice": one.advice} for one in self.findings]
        return {**asdict(self), "findings": each, "sentences": self.sentences}

    @property
    def _not_measured(self) -> list[str]:
        measured = {finding.thing for finding in self.findings}
        absent = [thing for thing in ORDER[:-1] if thing not in measured]
        return [f"Not measured, for this task or model has no such score: {', '.join(absent)}."] if absent else []

    @property
    def _opening(self) -> str:
        if self.stage == "nothing to learn":
            return (
                "The context has nothing to teach: the best prediction without it is as good as the Bayes-optimal one."
            )
        if self.progress is None:
            return (
                "How far it is nobody can tell: exact predictors, or predictions to compare with them, are not known."
            )
        return f"{_STAGES[self.stage]}: progress {self.progress:.2f} on held-out prompts."

    @property
    def _choices(self) -> list[str]:
        if self.stage != "on its way" or not self.by_choice:
            return []
        learnt = {name: value for name, value in self.by_choice.items() if value >= ESCAPE}
        waiting = {name: value for name, value in self.by_choice.items() if value < ESCAPE}
        if not waiting or not learnt:
            return []
        return [f"Learnt for prompts that hide {_listed(learnt)}, not for those that hide {_listed(waiting)}."]

    @property
    def _conclusion(self) -> list[str]:
        if self.stage in DONE:
            return []
        if not self.waits_for:
            return ["What it waits for: don't know; nothing that could be measured is missing."]
        first, *others = self.waits_for
        caveat = ", unless items do not stand out" if first == "queries" and self._unclear("items") else ""
        opening = "What it waits for first" if self.stage == "plateau" else "What may hold it back"
        also = f" Missing as well: {', '.join(others)}." if others else ""
        return [f"{opening}: {first}{caveat}.{also}", *self._advice]

    def _unclear(self, thing: Thing) -> bool:
        return any(finding.thing == thing and finding.verdict == "unclear" for finding in self.findings)

    @property
    def _advice(self) -> list[str]:
        """The first thing that is missing and not asked for, since what is asked for may wait for that as well."""
        asked = [thing for thing in self.waits_for if thing in self.asked_for]
        told = [f"Asked for by a loss already: {', '.join(asked)}."] if asked else []
        unasked = tuple(thing for thing in self.waits_for if thing not in self.asked_for)
        if not unasked:
            return [*told, "To try: more steps, or a larger weight of that loss."]
        first = unasked[0]
        advice = next(finding.advice for finding in self.findings if finding.thing == first and finding.advice)
        kept = _AND_KEPT if unasked[:2] == ("queries", "kept labels") else ""
        together = ' Or Strategy("unplateau"), which asks for everything at once.' if first != "inference" else ""
        return [*told, f"To try: {advice}{kept}.{together}"]


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} ({value:.2f})" for name, value in values.items())


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

    ``n_prompts`` held-out ones tell its progress, where the task knows its exact predictors; scores take a quarter of
    them, and as many others to choose maps and heads on. ``asked_for``: what its training asks for already
    (``strategy.asked_for``), which changes the advice and nothing else. Raises DivergedError for states that are not
    finite.
    """
    require_readable(model)
    halves = taken_apart(model, task, cut=cut, n_prompts=max(2, n_prompts // 4), seed=seed)
    progress, by_choice = _progress(model, task, n_prompts, seed) if isinstance(task, Task) else (None, {})
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
    if by_kind["binding"]:
        yield _of_labels(model, halves, shape, by_kind["binding"], seed)
    if by_kind["look"]:
        found = _finding("queries", by_kind["look"])
        if found.verdict == "missing" and getattr(task, "n_mappings", None) == 1:
            found = replace(found, verdict="unclear")  # what a label means is known, so no item like it is needed
        yield found
    if by_kind["keep"]:
        found = _finding("kept labels", by_kind["keep"])
        embedded = labels_are_kept(model, halves[1], shape, embedding=True, seed=seed)
        nowhere = found.verdict == _finding("kept labels", embedded).verdict == "missing"
        yield replace(found, nowhere=nowhere)


def _of_labels(model: Readable, halves: Halves, shape: TaskShape, scores: Sequence[ProbeScore], seed: int) -> Finding:
    """What items can hardly be told from each other cannot be asked of labels, nor more than what the prompt hides."""
    found = _finding("labels", scores)
    if found.verdict == "there":
        return found
    found = _finding("labels", scores, best=best_binding(model, halves, seed=seed))
    if found.verdict != "there" and shape.hides_factors and shape.asked:
        alike = _finding("labels", labels_are_bound(model, halves, shape, alike=True, seed=seed))
        if alike.verdict == "there":
            return replace(alike, alike=True)
    return found


def _finding(thing: Thing, scores: Sequence[ProbeScore], factor: str | None = None, *, best: float = 1.0) -> Finding:
    """From its scores in all layers."""
    top = max(scores, key=lambda score: score.accuracy)
    base = min(max(top.chance, top.control_accuracy), 1 - 1e-9)
    height = max(best - base, LEAST if best < 1 else 0.0)
    share, error = (top.accuracy - base) / height, ERRORS * (top.error or 0.0) / height
    line = LINES[thing]
    verdict: Verdict = "there" if share - error > line else "missing" if share + error < line else "unclear"
    if best < base + LEAST and verdict == "missing":
        verdict = "unclear"
    of_top = (top.layer, top.accuracy, top.chance, top.control_accuracy, top.error)
    return Finding(thing, verdict, factor, *of_top, best)


def _missing(findings: Sequence[Finding]) -> Iterable[Thing]:
    """In order; labels that nobody could ever read come before queries, which have nothing to look for as long."""
    missing = {finding.thing for finding in findings if finding.verdict == "missing"}
    if missing - {"inference"}:
        missing -= {"inference"}
    found = [thing for thing in ORDER if thing in missing]
    if any(finding.nowhere for finding in findings) and "queries" in found:
        found.remove("queries")
        found.append("queries")
    return found


def _progress(model: Readable, task: Task, n_prompts: int, seed: int) -> tuple[float | None, dict[str, float]]:
    """Of all prompts, and of those that hide each of several things; None for a model that shows no predictions."""
    shape, parts, hidden = task.shape, [], []
    for step in range(-(-n_prompts // AT_ONCE)):
        batch = task.sample(step, batch_size=AT_ONCE, split="test", seed=fold_seed(seed, "diagnose"))
        with torch.no_grad():
            logits = model(at_home(model, batch).inputs).logits.cpu()
        if not bool(logits.isfinite().all()):
            raise DivergedError("diagnose: the predictions hold NaN or infinity; the model has diverged")
        if logits.shape[-1] != (1 if shape.labels_are_numbers else shape.n_labels):
            return None, {}
        parts.append(_heights(task, batch, logits))
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
