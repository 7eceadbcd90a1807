"""What was found of a model, in words: each thing with its number, its control and what to try."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from unplateau.plateau.progress import ESCAPE
from unplateau.scores import Thing

ORDER: tuple[Thing, ...] = get_args(Thing)
ERRORS = 2.0
"""Standard errors that make a difference."""
Verdict = Literal["there", "missing", "unclear"]
Stage = Literal["before", "plateau", "by heart", "on its way", "arrived", "nothing to learn", "unknown"]
DONE: tuple[Stage, ...] = ("arrived", "nothing to learn")
"""Stages in which a model waits for nothing."""


@dataclass(frozen=True)
class Standing:
    """Progress on held-out prompts, None where nobody can tell.

    ``by_choice``: where a prompt hides one of several, with standard errors in ``by_choice_error``. ``by_heart``: on
    prompts of training items, if it is more than twice as much there. ``by_labels``: of the last query after the items
    before it were dealt anew to their labels, if nearly all of it is left.
    """

    stage: Stage
    progress: float | None = None
    by_choice: Mapping[str, float] = field(default_factory=dict)
    by_choice_error: Mapping[str, float] = field(default_factory=dict)
    by_heart: float | None = None
    by_labels: float | None = None

    @property
    def sentences(self) -> list[str]:
        """In words."""
        if self.stage == "nothing to learn":
            return [
                "The context has nothing to teach: the best prediction without it is as good as the Bayes-optimal one."
            ]
        if self.progress is None:
            return [
                "How far it is nobody can tell: exact predictors, or predictions to compare with them, are not known."
            ]
        told = f"{_STAGES[self.stage]}: progress {self.progress:.2f} on held-out prompts"
        if self.by_heart is not None:
            return [f"{told}, {self.by_heart:.2f} on others of the items that it was trained on."]
        if self.by_labels is not None:
            more = f"the last query has {self.by_labels:.2f} also after the items before it were dealt anew"
            return [f"{told}, which it has from the labels alone ({more})."]
        return [f"{told}.", *self._choices]

    @property
    def _choices(self) -> list[str]:
        if self.stage != "on its way" or not self.by_choice:
            return []
        doubt = {name: ERRORS * self.by_choice_error.get(name, 0.0) for name in self.by_choice}
        learnt = {name: value for name, value in self.by_choice.items() if value - doubt[name] >= ESCAPE}
        waiting = {name: value for name, value in self.by_choice.items() if value + doubt[name] < ESCAPE}
        if not waiting or not learnt:
            return []
        return [f"Learnt for prompts that hide {_listed(learnt)}, not for those that hide {_listed(waiting)}."]


@dataclass(frozen=True)
class Finding:
    """One thing: its score in the layer where it is highest; ``factor`` for items that should stand out by it.

    ``best``: what the score can be at most. ``alike``: of labels that need to name one of the items like their own.
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

    @property
    def sentence(self) -> str:
        """In words, with its number and its control."""
        error = "" if self.error is None else f" ± {self.error:.2f}"
        where = "embedding" if self.layer == 0 else f"block {self.layer}"
        beside = f"{where}; chance {self.chance:.2f}, control {self.control:.2f}"
        beside += f", possible {self.best:.2f}" if self.best < 1 else ""
        beside += "; items alike in what is hidden count as one" if self.alike else ""
        says = _SAYS[self.thing][self.verdict].format(self.factor)
        return f"{says}: {_MEASURE[self.thing]} {self.score:.2f}{error} at best ({beside})."

    @property
    def advice(self) -> str:
        """What to try where it is missing."""
        return _TRY[self.thing] if self.verdict == "missing" else ""


_STAGES: Mapping[Stage, str] = {
    "before": "It predicts worse than who ignores the context, as before a plateau",
    "plateau": "It is on its plateau",
    "by heart": "It has learnt items of its training by heart",
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
        "missing": "Labels are drowned by what is bound to them: those that are alike do not look alike any more",
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
    "labels": "BindLoss with KeepLoss, or labels that carry their items (labels_carry_items)",
    "kept labels": "KeepLoss, or larger embeddings of labels at first (model.label_gain; init scaled)",
    "queries": "LookLoss",
    "inference": "more pairs in a prompt; or, where mappings are random, Mixed or a warm-up on a fixed one",
}


@dataclass(frozen=True)
class Diagnosis:
    """``standing``: how far it has come.

    ``findings``: of all things that have a score. ``waits_for``: those that are missing, the first in the order items,
    labels, kept labels, queries, inference being the one to begin with; empty where nothing is, or nobody can tell.
    ``asked_for``: what a loss of the training asks for already, which is then not advised.
    """

    standing: Standing
    findings: tuple[Finding, ...]
    waits_for: tuple[Thing, ...]
    asked_for: tuple[Thing, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """All of it in words."""
        told = [finding.sentence for finding in self.findings]
        return [*self.standing.sentences, *told, *self._not_measured, *self._conclusion]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, the sentences included."""
        each = [{**asdict(one), "sentence": one.sentence, "advice": one.advice} for one in self.findings]
        told = asdict(self)
        return {**told.pop("standing"), **told, "findings": each, "sentences": self.sentences}

    @property
    def _not_measured(self) -> list[str]:
        measured = {finding.thing for finding in self.findings}
        absent = [thing for thing in ORDER[:-1] if thing not in measured]
        return [f"Not measured, for this task or model has no such score: {', '.join(absent)}."] if absent else []

    @property
    def _conclusion(self) -> list[str]:
        if self.standing.stage in DONE:
            return []
        if not self.waits_for and self.standing.stage == "by heart":
            return self._advice
        if not self.waits_for:
            unclear = [thing for thing in ORDER if self._unclear(thing)]
            more = f"; not clear: {', '.join(unclear)}" if unclear else ""
            return [f"What it waits for: don't know; nothing that could be measured is missing{more}."]
        first, *others = self.waits_for
        caveat = ", unless items do not stand out" if first == "queries" and self._unclear("items") else ""
        flat = self.standing.stage in ("before", "plateau")
        opening = "What it waits for first" if flat else "What may hold it back"
        also = f" Missing as well: {', '.join(others)}." if others else ""
        return [f"{opening}: {first}{caveat}.{also}", *self._advice]

    def _unclear(self, thing: Thing) -> bool:
        return any(finding.thing == thing and finding.verdict == "unclear" for finding in self.findings)

    @property
    def _advice(self) -> list[str]:
        """The first thing that is missing and not asked for, since what is asked for may wait for that as well."""
        if self.standing.stage == "by heart":
            return ["To try: more different items in training."]
        asked = [thing for thing in self.waits_for if thing in self.asked_for]
        told = [f"Asked for by a loss already: {', '.join(asked)}."] if asked else []
        unasked = tuple(thing for thing in self.waits_for if thing not in self.asked_for)
        if not unasked:
            return [*told, "To try: more steps, or a larger weight of that loss."]
        first = unasked[0]
        advice = next(finding.advice for finding in self.findings if finding.thing == first and finding.advice)
        together = ' Or Strategy("unplateau"), which asks for everything at once.' if first != "inference" else ""
        return [*told, f"To try: {advice}.{together}"]


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} ({value:.2f})" for name, value in values.items())
