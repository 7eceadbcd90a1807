"""A strategy is two pure questions: what do I sample at this step, and what do I add to the loss.

It holds no trainer and no state; it is a value that can be written down.
"""

from collections.abc import Callable
from typing import Any, Self

from pydantic import Field, model_validator

from unplateau.config import Config, placed
from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.scores import Thing
from unplateau.strategies.base import Curriculum, LossTerm, Mix, Part, V
from unplateau.strategies.prompt_losses import BindLoss, KeepLoss, LookLoss, MatchLoss
from unplateau.tasks.mixture import are_shares

COMBINATIONS: dict[str, tuple[Part, ...]] = {"unplateau": (MatchLoss(), BindLoss(), LookLoss(), KeepLoss())}
"""Ready combinations by name, one setting for all tasks."""


class Strategy(Config):
    """Any combination of curricula and loss terms; with none it is plain training.

    ``Strategy(Mixed(), MatchLoss(share=1))``, or by name: ``Strategy("unplateau")``, ``Strategy("mixed+match-loss")``.
    Curricula are applied in the order given, each to what the one before chose.
    """

    parts: tuple[Part, ...] = Field((), description="curricula and loss terms, in order")

    def __init__(self, *parts: Part | str, **data: Any) -> None:
        with placed():
            named = [one for part in parts for one in (_named(part) if isinstance(part, str) else (part,))]
        super().__init__(**({**data, "parts": named} if parts else data))

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined] # as in Config

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"parts": _named(data)} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _no_part_twice(self) -> Self:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"a strategy cannot contain the same part twice: {'+'.join(names)}")
        return self

    @property
    def name(self) -> str:
        """``plain``, or the names of the parts joined by ``+``, a ready combination by its own."""
        names, parts = [part.name for part in self.parts], self.parts
        for name, ready in COMBINATIONS.items():
            for start in range(len(parts) - len(ready) + 1):
                if parts[start : start + len(ready)] == ready:
                    names[start : start + len(ready)] = [name]
        return "+".join(names) or "plain"

    @property
    def loss_terms(self) -> tuple[LossTerm, ...]:
        """The terms that are present, i.e. whose weight is above 0."""
        return tuple(part for part in self.parts if isinstance(part, LossTerm) and part.weight > 0)

    @property
    def asked_for(self) -> frozenset[Thing]:
        """Of what in-context learning needs, all that a loss term asks for which is no control."""
        terms = (term for term in self.loss_terms if not getattr(term, "control", False))
        return frozenset(term.thing for term in terms if term.thing is not None)

    @property
    def curricula(self) -> tuple[Curriculum, ...]:
        """The curricula, in order."""
        return tuple(part for part in self.parts if isinstance(part, Curriculum))

    def choose(self, step: int, target: V, history: History, blend: Callable[[Mix[V]], V]) -> V:
        """What to sample at this step; ``blend`` makes one of a mixture. Raises SpecError for shares that are none."""
        for curriculum in self.curricula:
            mix = curriculum.mix(step, target, history)
            shares = tuple(share for share, _ in mix)
            if not are_shares(shares):
                name = type(curriculum).__name__
                raise SpecError(f"{name}: shares must be at least 0 and sum to 1, got {shares} at step {step}")
            target = mix[0][1] if len(mix) == 1 else blend(mix)
        return target


def _named(names: str) -> tuple[Part, ...]:
    """The parts of ``a+b``. Raises ValueError, with a suggestion, for an unknown name."""
    parts: list[Part] = []
    for name in names.split("+"):
        if name in COMBINATIONS:
            parts += COMBINATIONS[name]
        elif name != "plain":
            parts.append(Part.named(name, besides=COMBINATIONS).inside({}))
    return tuple(parts)
