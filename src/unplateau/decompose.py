"""Separation of hidden states into what the weights alone compute and what the context adds.

The weights component is the hidden state that the same weights compute with no access to any other position; the
context component is the rest, so that hidden = weights + context (Fu et al. 2024, section 4).
"""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from unplateau.config import Kind
from unplateau.errors import SpecError, suggest
from unplateau.layout import Attention, Cut, TaskShape
from unplateau.tensors import Components, Inputs, Output, Prediction

logger = logging.getLogger(__name__)
_HOW = (
    "docs/extending.md, 'A model', has one; unplateau.integrations reads other people's: module_reader any module with "
    "a list of blocks, huggingface language models"
)


def decompose(model: Readable, inputs: Inputs, *, cut: Cut = "self") -> Components:
    """Hidden, weights and context components, each (L + 1, B, T, D); index 0 is the embedding.

    ``cut`` names what "no access" means: ``self`` (every position attends to itself only), ``item`` (to its own item
    only: the same where items take one position each, and the reading for items of several tokens), ``identity``
    (attention's output is its own layer-normed input, as in the paper's released code) or ``zero`` (attention adds
    nothing).
    Runs without gradients. Raises SpecError for an unknown cut, and for a model that lacks what is needed. Of one that
    computes the same under every cut, so that its context component is zero, a warning is logged.
    """
    if cut not in get_args(Cut):
        raise SpecError(f"unknown cut '{cut}'{suggest(str(cut), get_args(Cut))}")
    require_readable(model)
    hidden, weights = _states(model, inputs, "causal"), _states(model, inputs, cut)
    if hidden.shape[2] > 1 and torch.equal(hidden, weights):
        _warn_if_deaf(model, inputs, hidden)
    return Components(hidden, weights, hidden - weights, cut)


def require_readable(model: object) -> None:
    """Raises SpecError, saying what is missing and where that is described, for a model that cannot be taken apart."""
    missing = [] if isinstance(getattr(model, "n_layers", None), int) else ["n_layers, the number of its blocks"]
    if not callable(model) or not _takes_attention(model.forward if isinstance(model, nn.Module) else model):
        missing.append("attention, an argument of its forward pass that names the cut")
    if missing:
        raise SpecError(f"{type(model).__name__} cannot be taken apart: it lacks {'; and '.join(missing)} ({_HOW})")


def _takes_attention(forward: Callable[..., Any]) -> bool:
    try:
        inspect.signature(forward).bind(None, attention="self")
    except TypeError:
        return False
    except ValueError:  # a compiled function that does not say
        return True
    return True


def _states(model: Readable, inputs: Inputs, attention: Attention) -> Tensor:
    """(L + 1, B, T, D). Raises SpecError for a model that returns something else."""
    with torch.no_grad():
        output = model(inputs, attention=attention)
    hidden = getattr(output, "hidden", None)
    if not isinstance(hidden, Tensor) or hidden.ndim != 4 or len(hidden) != model.n_layers + 1:
        shape = f"{tuple(hidden.shape)}" if isinstance(hidden, Tensor) else f"no tensor in {type(output).__name__}"
        wanted = f"hidden states ({model.n_layers + 1}, B, T, D), the embedding first, as unplateau.tensors.Output"
        raise SpecError(f"{type(model).__name__} must return {wanted}; got {shape} ({_HOW})")
    return hidden


def _warn_if_deaf(model: Readable, inputs: Inputs, hidden: Tensor) -> None:
    """Logs a warning if no cut changes anything: the argument is not heeded, or there is nothing to cut off."""
    cuts: tuple[Cut, ...] = ("self", "identity", "zero")
    try:
        deaf = all(torch.equal(_states(model, inputs, cut), hidden) for cut in cuts)
    except SpecError:  # it knows some cuts only, so it looks at the argument
        return
    if deaf:
        logger.warning(
            "%s computes the same under every cut, so that its context component is zero everywhere: its forward pass "
            "does not heed attention, or positions never see each other (%s)",
            type(model).__name__,
            _HOW,
        )


class Readable(Protocol):
    """A model whose hidden states can be computed with and without access to other positions."""

    @property
    def n_layers(self) -> int:
        """Number of blocks (L)."""

    def __call__(self, inputs: Inputs, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) and hidden states (L + 1, B, T, D) under this attention."""


@runtime_checkable
class Decomposable(Readable, Protocol):
    """One that also gives single components, which loss terms read."""

    def component(self, inputs: Inputs, cut: Attention, n_layers: int) -> Tensor:
        """(B, M, D): the states at the known positions after this many blocks, no more being computed than needed."""

    def component_alone(self, items: Tensor, positions: Tensor, cut: Attention, n_layers: int) -> Tensor:
        """(N, D): the same for items shown alone (:class:`~unplateau.tensors.Items`), ending at ``positions`` (N,)."""

    def normalise(self, hidden: Tensor) -> Tensor:
        """(..., D): the final layer norm, which stands between hidden states and any read-out."""


@runtime_checkable
class Sparing(Protocol):
    """A model that predicts without computing states that nothing is predicted from."""

    def predict_queries(self, inputs: Inputs) -> Prediction:
        """Logits as those of its forward pass, to rounding."""


def predict(model: Readable, inputs: Inputs) -> Prediction:
    """The forward pass, as sparing as the model allows."""
    return model.predict_queries(inputs) if isinstance(model, Sparing) else Prediction.of(model(inputs), inputs)


@runtime_checkable
class Attentive(Protocol):
    """A model that shows where a block looks."""

    def attention_weights(self, hidden: Tensor, layer: int) -> Tensor:
        """(B, H, T, T): what block number ``layer`` (from 1) attends to, given the states (B, T, D) that enter it."""


@runtime_checkable
class AttentionReader(Protocol):
    """A model of which it can be read where its blocks look, not necessarily from the states that enter them."""

    def attentions(self, inputs: Inputs) -> Tensor | None:
        """(L, B, H, T, T): what every block attends to; None if one of them does not show it."""


class Trainable(Decomposable, Protocol):
    """A decomposable ``torch.nn.Module``: of that class, what training and checkpoints use."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Puts them back."""

    def to(self, device: torch.device) -> Self:
        """The same model on this device."""

    def eval(self) -> Self:
        """The same model, as it is used after training."""


class Architecture(Kind):
    """A model as a value: its sizes, and how it is built for a task."""

    noun = "model"
    usual = "ModelConfig"

    n_layers: int = Field(ge=1, description="number of blocks (L)")
    width: int = Field(ge=1, description="width of the hidden state (D)")

    @abstractmethod
    def build(self, shape: TaskShape, *, seed: int) -> Trainable:
        """The model with its initial weights, which are a pure function of this value, the shape and the seed."""

    def n_weights(self, shape: TaskShape) -> int:
        """Number of weights of the model for this task, told before it is built; 0 if that is not known."""
        del shape
        return 0

    @property
    def bytes_per_block(self) -> int:
        """Bytes of memory that a block takes at least, whatever its width; 0 if that is not known."""
        return 0

    @property
    def kept_by_block(self) -> int:
        """Numbers, in widths, that a block keeps of each position for its backward pass; its state at least."""
        return 1

    @property
    def head_init(self) -> Literal["scaled", "gpt2"]:
        """How the read-out heads of loss terms start."""
        return "scaled"

    @property
    def shows_attention(self) -> bool:
        """Whether its models are :class:`Attentive`."""
        return False
