"""A strategy is two pure questions: what do I sample at this step, and what do I add to the loss.

It holds no trainer and no state; it is a value that can be written down. The same value works in every loop: a
:class:`Curriculum` mixes tasks or datasets, and a :class:`LossTerm` reads what a :class:`Host` shows of a step.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, TypeVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from unplateau.config import Config, Kind
from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.layout import Cut
from unplateau.tasks.mixture import are_shares

Ask = Literal["hidden", "all", "identity", "choice", "label"]
"""What a state must tell: the factors that a prompt may hide, all factors of the item, which item it is (where items
are single tokens), what the prompt hides, the label."""
Read = Literal["final", "labels", "weights"]
"""Which states a term reads: a method of :class:`View`."""


class Mixable(Protocol):
    """What curricula choose among: tasks and datasets."""

    def fixed(self, variant: int = 0) -> Self:
        """The same with a fixed mapping (D_fix); ``variant`` chooses which."""

    def shuffled(self) -> Self:
        """Control: the same, but labels follow something else."""


V = TypeVar("V", bound=Mixable)
Mix = Sequence[tuple[float, V]]
"""Shares of the rows, which sum to 1, and what they are drawn from."""


class Part(Kind):
    """One ingredient of a strategy: a curriculum or a loss term."""

    noun = "strategy"

    @property
    def name(self) -> str:
        """``mixed``, or ``mixed[fraction=0.25]`` where a setting is not the default."""
        words = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        changed = [
            f"{field}={getattr(self, field)}"
            for field, info in type(self).model_fields.items()
            if getattr(self, field) != info.default
        ]
        return f"{words}[{','.join(changed)}]" if changed else words


class Curriculum(Part):
    """Chooses what the rows of each step are drawn from. Pure and total; after its last phase it stays the same."""

    @abstractmethod
    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        """Such as ``[(0.5, target.fixed()), (0.5, target)]``; ``target`` is what would be sampled without it."""


@dataclass(frozen=True)
class Seen:
    """States at some positions, and what each of them should tell.

    ``states`` (N, D), normalised. ``classes`` (N, A) int64, -100 for none. ``row`` (N,): the row of the batch.
    """

    states: Tensor
    classes: Tensor
    row: Tensor


class View(Protocol):
    """What a loss term may read at one step; made by the host. A method that the host refuses raises SpecError."""

    @property
    def step(self) -> int:
        """Updates made before."""

    @property
    def seed(self) -> int:
        """Seed of the run, for random numbers of the term's own (``rng.fold``)."""

    @property
    def head(self) -> Any:
        """What the term's ``build_head`` made; read-outs of the host have ``loss(states, classes)``."""

    def final(self, ask: Ask = "hidden") -> Seen:
        """States of the pass that made the prediction, after the last block, where what is asked for is known."""

    def labels(self, block: int, *, rows: int | None = None) -> Seen:
        """States of the same pass at the labels, after this block; classes (N, 1): which pair of its prompt."""

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Weights components after ``layer`` blocks: of the first ``rows`` rows, or of ``items`` items drawn alone."""


class Host(Protocol):
    """Where loss terms are computed: a training loop, as far as a term must know it."""

    @property
    def n_layers(self) -> int:
        """Number of blocks of the model (L)."""

    @property
    def width(self) -> int:
        """Width of its hidden states (D)."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Each :data:`Read`, :data:`Ask`, ``<ask> from <read>`` and ``cut <cut>`` that means nothing here, and why."""

    def read_out(self, ask: Ask) -> nn.Module:
        """A head for what is asked, with ``loss(states, classes)``: mean cross-entropy in nats."""


class LossTerm(Part):
    """Adds ``weight`` times its value to the loss. With weight 0 it is absent: no head, no computation."""

    weight: float = Field(ge=0, description="factor of this term in the loss (lambda)")

    @property
    def reads(self) -> tuple[Read, ...]:
        """Which states it reads: a host that does not have them refuses the term before training begins."""
        return ()

    @property
    def asks(self) -> tuple[Ask, ...]:
        """What it asks of states, for the same reason."""
        return ()

    def check_host(self, host: Host) -> None:
        """Raises ValueError, naming the term and what is missing, if it cannot work in this host."""
        both = [f"{ask} from {read}" for ask in self.asks for read in self.reads]
        for wanted in (*self.reads, *self.asks, *both):
            if wanted in host.refused:
                raise ValueError(f"{type(self).__name__}: {host.refused[wanted]}")

    def check_view(self, read: Read, ask: Ask, layer: int, n_layers: int) -> None:
        """Raises SpecError for what the term reads without having said so, or from a layer that is not there.

        Every host calls it before it shows anything: what runs in one loop is then refused in none by surprise.
        """
        name = type(self).__name__
        if read not in self.reads:
            raise SpecError(f"{name}: reads '{read}': say so in its reads")
        if ask != "hidden" and ask not in self.asks:
            raise SpecError(f"{name}: asks for '{ask}': say so in its asks")
        if not 0 <= layer <= n_layers:
            raise SpecError(f"{name}: layer {layer} is beyond the model's {n_layers} layers")

    @abstractmethod
    def build_head(self, host: Host) -> nn.Module:
        """What is trained along and thrown away at the end: ``host.read_out(ask)``, or any module."""

    @abstractmethod
    def value(self, view: View) -> Tensor:
        """The unweighted loss of this step: a finite, differentiable scalar in nats."""


class Strategy(Config):
    """Any combination of curricula and loss terms; with none it is plain training.

    Curricula are applied in the order given, each to what the one before chose.
    """

    parts: tuple[Part, ...] = Field((), description="curricula and loss terms, in order")

    def __init__(self, *parts: Part, **data: Any) -> None:
        super().__init__(**(data if not parts else {**data, "parts": parts}))

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        names = [name for name in data.split("+") if name != "plain"]
        return {"parts": tuple(Part.named(name).model_validate({}) for name in names)}

    @model_validator(mode="after")
    def _no_part_twice(self) -> Self:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"a strategy cannot contain the same part twice: {'+'.join(names)}")
        return self

    @property
    def name(self) -> str:
        """``plain``, or the names of the parts joined by ``+``."""
        return "+".join(part.name for part in self.parts) or "plain"

    @property
    def loss_terms(self) -> tuple[LossTerm, ...]:
        """The terms that are present, i.e. whose weight is above 0."""
        return tuple(part for part in self.parts if isinstance(part, LossTerm) and part.weight > 0)

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
