"""Patches between two models: what does one do if a head attends, or an item's own state is, as in the other?

The two should come from the same run, or from the same initial weights: their states must mean the same. Legend: B
prompts, T positions, H heads, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unplateau.models.transformer import Block, Transformer
from unplateau.rng import fold_seed
from unplateau.tasks.base import Task
from unplateau.tasks.floors import floors
from unplateau.tasks.loss import prediction_loss
from unplateau.tensors import Inputs, Output

PROMPTS = 256


@dataclass(frozen=True)
class Patch:
    """What was taken from the other model, and the progress on held-out prompts with it.

    ``what``: ``head`` (its attention), ``block`` (the attention of all its heads) or ``weights`` (the weights component
    of items after the block). ``control``: progress with the same of another prompt.
    """

    what: str
    block: int
    head: int | None
    progress: float
    control: float


@dataclass(frozen=True)
class Patches:
    """``own`` and ``other``: progress of either model as it is."""

    own: float
    other: float
    patches: tuple[Patch, ...]


def patch(model: Transformer, other: Transformer, task: Task, *, n_prompts: int = PROMPTS, seed: int = 0) -> Patches:
    """The progress of ``model`` with each single patch from ``other``, on held-out prompts of this task.

    Of each head its attention, of each block that of all heads, and after each block the weights component of items
    (cut ``self``), the context component staying what it was. Pure in its arguments.
    """
    batch = task.sample(0, batch_size=n_prompts, split="test", seed=fold_seed(seed, "patches"))
    inputs, known = batch.inputs, floors(task)

    def progress(output: Output) -> float:
        accuracy = None if batch.targets.is_floating_point() else (output.logits.argmax(2) == batch.targets).double()
        loss = float(prediction_loss(output.logits, batch.targets))
        return known.progress_of(loss=loss, accuracy=None if accuracy is None else float(accuracy.mean()))

    with torch.no_grad():
        theirs = other(inputs).hidden
        found = tuple(
            Patch(
                what,
                number,
                head,
                *(progress(_patched(model, inputs, what, number, head, one)) for one in (given, given.roll(1, 0))),
            )
            for what, number, head, given in _given(model, other, inputs, theirs)
        )
        return Patches(progress(model(inputs)), progress(other(inputs)), found)


def _given(
    model: Transformer, other: Transformer, inputs: Inputs, theirs: Tensor
) -> Iterator[tuple[str, int, int | None, Tensor]]:
    """What is taken, of which block and head: attention (B, H, T, T), or weights components (B, T, D)."""
    for number in range(1, model.n_layers + 1):
        weights = other.attention_weights(theirs[number - 1], number)
        yield "block", number, None, weights
        for head in range(weights.shape[1]):
            yield "head", number, head, weights
    alone = other(inputs, attention="self").hidden
    for number in range(1, model.n_layers + 1):
        yield "weights", number, None, alone[number]


def _patched(model: Transformer, inputs: Inputs, what: str, number: int, head: int | None, given: Tensor) -> Output:
    states = model.hidden_states(model.embed(inputs), "causal", number if what == "weights" else number - 1)
    if what == "weights":
        states[-1] = _with_weights(model, inputs, states[-1], number, given)
    else:
        block = model.blocks[number - 1]
        assert isinstance(block, Block)
        states.append(_attending(block, states[-1], head, given))
    for block in model.blocks[number:]:
        states.append(block(states[-1], "causal"))
    return model.output(states, inputs)


def _attending(block: Block, x: Tensor, head: int | None, given: Tensor) -> Tensor:
    """The block with one head, or all, attending as it is given."""
    normed = block.attention_norm(x)
    weights = given
    if head is not None:
        weights = block.attention.weights(normed)
        weights[:, head] = given[:, head]
    return block.after_attention(x + block.attention.read(normed, weights))


def _with_weights(model: Transformer, inputs: Inputs, hidden: Tensor, number: int, given: Tensor) -> Tensor:
    """The state with another weights component at the items, and its own context component."""
    own = model.hidden_states(model.embed(inputs), "self", number)[-1]
    items = torch.zeros(hidden.shape[1], dtype=torch.bool, device=hidden.device)
    items[list(model.shape.layout.known)] = True
    return torch.where(items[:, None], hidden - own + given, hidden)
