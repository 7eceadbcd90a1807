"""Patches: what does a model do if a component, or where a head attends, is as on other prompts or in another model?

Two models should come from the same run, or from the same initial weights: their states must mean the same. Legend: B
prompts, T positions, H heads, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from unplateau.errors import SpecError, suggest
from unplateau.models.transformer import Block, Transformer
from unplateau.rng import fold_seed
from unplateau.scores import Component
from unplateau.tasks.base import Task
from unplateau.tasks.floors import floors
from unplateau.tasks.loss import prediction_loss
from unplateau.tensors import Components, Inputs, Output

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


def replace_component(
    model: Transformer,
    inputs: Inputs,
    given: Components,
    *,
    component: Component = "weights",
    layers: int | Sequence[int],
    positions: int | Sequence[int] | None = None,
) -> Output:
    """What the model makes of these inputs if a component is that of ``given`` at these layers and positions.

    ``given``: what :func:`~unplateau.decompose.decompose` returned, of this model on other prompts or of another model;
    its cut says what the components are. ``layers``: from 0, the embedding, to L; ``positions``: of the prompt, all by
    default, counted from its end below 0. Of ``weights`` and ``context`` the other component stays what it then is;
    ``hidden`` replaces the whole state. Raises SpecError for what is not there.
    """
    chosen, places = _listed(layers), None if positions is None else _listed(positions)
    if component not in get_args(Component):
        raise SpecError(f"unknown component '{component}'{suggest(component, get_args(Component))}")
    with torch.no_grad():
        embedded = model.embed(inputs)
        own = model.hidden_states(embedded, given.cut)
    _refuse_absent(chosen, places, model, embedded, given)
    where = torch.zeros(embedded.shape[1], dtype=torch.bool, device=embedded.device)
    where[slice(None) if places is None else places] = True
    states: list[Tensor] = []
    with torch.no_grad():
        for layer in range(model.n_layers + 1):
            state = embedded if layer == 0 else _one_block(model, layer, states[-1])
            if layer in chosen:
                state = torch.where(where[:, None], _with_component(state, own[layer], given, component, layer), state)
            states.append(state)
        return model.output(states, inputs)


def _one_block(model: Transformer, number: int, state: Tensor) -> Tensor:
    return model.blocks[number - 1](state, "causal")


def _with_component(hidden: Tensor, own: Tensor, given: Components, component: Component, layer: int) -> Tensor:
    if component == "hidden":
        return given.hidden[layer]
    return hidden - own + given.weights[layer] if component == "weights" else own + given.context[layer]


def _refuse_absent(
    layers: Sequence[int], positions: Sequence[int] | None, model: Transformer, embedded: Tensor, given: Components
) -> None:
    length = embedded.shape[1]
    if given.hidden.shape[1:] != embedded.shape or len(given.hidden) != model.n_layers + 1:
        raise SpecError(
            f"given: components of shape {tuple(given.hidden.shape)} do not fit {model.n_layers + 1} layers of "
            f"{tuple(embedded.shape)}"
        )
    for name, numbers, existing in (
        ("layers", layers, range(model.n_layers + 1)),
        ("positions", positions or (), range(-length, length)),
    ):
        if absent := [number for number in numbers if number not in existing]:
            raise SpecError(f"{name}: there is no {absent[0]}; there are {existing[0]} to {existing[-1]}")


def _listed(numbers: int | Sequence[int]) -> list[int]:
    return [numbers] if isinstance(numbers, int) else list(numbers)


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
