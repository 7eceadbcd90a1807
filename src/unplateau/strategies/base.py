"""The parts of a strategy, and what they see of training.

A :class:`Curriculum` mixes tasks or datasets, and a :class:`LossTerm` reads what a :class:`Host` shows of a step, so
that the same value works in every loop.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import Field
from torch import Tensor, nn

from unplateau.config import Kind
from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.layout import Cut
from unplateau.scores import Thing

Ask = Literal["hidden", "all", "identity", "choice", "label"]
"""What a state must tell: the factors that a prompt may hide, all factors of the item, which item it is (where items
are single tokens), what the prompt hides, the label."""
Read = Literal["final", "weights", "items", "labels", "attention"]
"""What a term reads: a method of :class:`View`."""


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


@dataclass(frozen=True)
class ItemStates:
    """The items of some prompts, each shown alone.

    ``states`` (R, M, D), normalised. ``labels`` (R, M): the label that goes with each, a class (int64) or a number
    (float). ``seen`` (R, M, M) bool: item k may be told from item j, whose label is known where k is asked for.
    """

    states: Tensor
    labels: Tensor
    seen: Tensor


@dataclass(frozen=True)
class LabelStates:
    """The labels of some prompts.

    ``states`` (R, K, D), normalised. ``owner`` (R, K, M) bool: whose label it is. ``labels`` (R, K): which label it is,
    a class (int64) or a number (float). ``seen`` (R, K, K) bool: label k may be told from label j, which is earlier.
    """

    states: Tensor
    owner: Tensor
    labels: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Looks:
    """Where the queries of some prompts look.

    ``attention`` (R, H, Q, K): of each head, from query to label, a share of all that the query looks at. ``targets``
    (R, Q): what a query is asked for; ``labels`` (R, K). ``seen`` (R, Q, K) bool: the labels that a query may look at.
    """

    attention: Tensor
    targets: Tensor
    labels: Tensor
    seen: Tensor


class View(Protocol):
    """What a loss term may read at one step; made by the host. A method that the host refuses raises SpecError."""

    @property
    def step(self) -> int:
        """Updates made before."""

    @property
    def seed(self) -> int:
        """Seed of the run, for random numbers of the term's own (``rng.fold``)."""

    @property
    def n_layers(self) -> int:
        """Number of blocks of the model (L)."""

    @property
    def n_rows(self) -> int:
        """Number of prompts in the batch (B)."""

    @property
    def head(self) -> Any:
        """What the term's ``build_head`` made; read-outs of the host have ``loss(states, classes)``."""

    def final(self, ask: Ask = "hidden") -> Seen:
        """States of the pass that made the prediction, after the last block, where what is asked for is known."""

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Weights components after ``layer`` blocks: of the first ``rows`` rows, or of ``items`` items drawn alone."""

    def items(self, layer: int, *, rows: int | None = None, elsewhere: bool = False) -> ItemStates:
        """What ``layer`` blocks make of each item shown alone; ``elsewhere``: at a random item position."""

    def labels(self, layer: int, *, rows: int | None = None) -> LabelStates:
        """States of the pass that made the prediction, at the labels."""

    def attention(self, layer: int, *, rows: int | None = None) -> Looks:
        """Of the same pass, in block number ``layer``, the first being 1."""


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

    thing: ClassVar[Thing | None] = None
    """What it asks for, of all that in-context learning needs."""
    recordable: ClassVar[bool] = False
    """Whether ``value`` computes the same from the tensors of every view, in as many calls of PyTorch, and takes no
    numbers from Python that differ from step to step. A GPU may then replay it (``train.execution``)."""

    weight: float = Field(ge=0, description="factor of this term in the loss (lambda)")

    @property
    def reads(self) -> tuple[Read, ...]:
        """Which states it reads: a host that does not have them refuses the term before training begins."""
        return ()

    @property
    def asks(self) -> tuple[Ask, ...]:
        """What it asks of states, for the same reason."""
        return ()

    @property
    def lasts(self) -> int | None:
        """Steps after which it is absent; None: it stays."""
        return None

    def weight_at(self, step: int) -> float:
        """Its factor in the loss of this step; at 0 it is not computed."""
        del step
        return self.weight

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
