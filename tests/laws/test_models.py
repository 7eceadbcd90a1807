"""The Transformer keeps the laws of decomposable models; a leak is caught by name."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unplateau.decompose import decompose
from unplateau.errors import LawError, SpecError
from unplateau.items.texts import LabelledText
from unplateau.items.words import Words
from unplateau.layout import CUTS, Attention, Cut, Factor, Layout, TaskShape, Vectors
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.tasks.base import Task
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Output, Prompts
from unplateau.testing import check_model

SHAPE = TaskShape(Layout(9), Vectors(10), 4, (Factor("a", 4), Factor("b", 3)), (0, 1), ("a", "b"))


def prompts(seed: int = 0) -> Prompts:
    generator = torch.Generator().manual_seed(seed)
    items = torch.randn(4, 9, 10, generator=generator)
    return Prompts(items, torch.randint(4, (4, 9), generator=generator), SHAPE.layout)


@pytest.mark.parametrize("init", ["scaled", "gpt2"])
@pytest.mark.parametrize("width", [16, 64])
def test_transformer_keeps_the_laws(init: str, width: int) -> None:
    config = ModelConfig.model_validate({"init": init, "width": width})
    check_model(Transformer(config, SHAPE, seed=1), prompts())


TASKS: dict[str, Task] = {
    "words": FactorTask(source=Words(), n_pairs=7),
    "words in characters": FactorTask(source=Words(written="characters"), n_pairs=7),
    "selection": WordSelection(n_pairs=5),
    "sentences in pieces": FactorTask(source=LabelledText(written="pieces", most_pieces=6), n_pairs=4),
    "recall": AssociativeRecall(n_pairs=7),
    "clusters": Clusters(n_pairs=6),
    "parity": SparseParity(n_pairs=7),
    "regression": LinearRegression(n_pairs=6),
}


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_transformer_keeps_the_laws_on_tasks(name: str, carry: bool) -> None:
    task = TASKS[name]
    config = ModelConfig(width=16, labels_carry_items=carry)
    check_model(Transformer(config, task.shape, seed=2), task.sample(0, batch_size=3).inputs)


def test_cut_item_equals_cut_self_where_items_take_one_position() -> None:
    model, inputs = Transformer(ModelConfig(), SHAPE), prompts()
    alone, by_item = (decompose(model, inputs, cut=cut).weights[:, :, ::2] for cut in ("self", "item"))
    torch.testing.assert_close(alone, by_item, atol=1e-5, rtol=1e-5)


def test_cut_item_equals_a_prompt_of_one_item_where_items_take_several_positions() -> None:
    task = TASKS["sentences in pieces"]
    model = Transformer(ModelConfig(), task.shape)
    inputs = task.sample(0, batch_size=3).inputs
    assert isinstance(inputs, Prompts)
    first = Prompts(inputs.items[:, :1], inputs.labels[:, :1], replace(inputs.layout, n_pairs=1))
    alone = model(first).hidden
    torch.testing.assert_close(decompose(model, inputs, cut="item").weights[:, :, :7], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", TASKS)
def test_items_alone_have_the_states_that_they_have_in_a_prompt_under_a_cut(name: str, cut: Cut) -> None:
    task = TASKS[name]
    model = Transformer(ModelConfig(width=16), task.shape)
    inputs = task.sample(0, batch_size=1).inputs
    assert isinstance(inputs, Prompts)
    alone = inputs.items[0].flatten(0, 1)[:, None] if task.shape.layout.in_lists else inputs.items[0]
    found = model.component_alone(alone, torch.tensor(task.shape.layout.known), cut, 2)
    torch.testing.assert_close(found, model.component(inputs, cut, 2)[0])


class Leaking(Transformer):
    """Uses causal attention where it should look at itself only."""

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        return super().hidden_states(embedded, "causal" if attention == "self" else attention, n_layers)


class Clairvoyant(Transformer):
    """Adds the mean of the whole prompt to every position."""

    def forward(self, inputs: Prompts, attention: Attention = "causal") -> Output:
        output = super().forward(inputs, attention)
        return Output(output.logits + inputs.items.mean(), output.hidden + inputs.items.mean())


@pytest.mark.parametrize(("broken", "law"), [(Leaking, "no other pair"), (Clairvoyant, "later inputs")])
def test_broken_model_is_caught(broken: type[Transformer], law: str) -> None:
    with pytest.raises(LawError, match=law):
        check_model(broken(ModelConfig(), SHAPE), prompts())


@pytest.mark.parametrize("cut", CUTS)
def test_embedding_has_no_context_component(cut: str) -> None:
    parts = decompose(Transformer(ModelConfig(), SHAPE), prompts(), cut=cut)  # type: ignore[arg-type]
    assert parts.context[0].abs().max() == 0
    assert parts.cut == cut


def test_cut_zero_leaves_only_the_mlps() -> None:
    model = Transformer(ModelConfig(n_layers=1, width=16), SHAPE)
    embedded = model.embed(prompts())
    block = model.blocks[0]
    wanted = embedded + block.contract(
        torch.nn.functional.gelu(block.expand(block.mlp_norm(embedded)), approximate="tanh")
    )
    torch.testing.assert_close(model.hidden_states(embedded, "zero")[1], wanted)


def test_cut_self_equals_a_prompt_of_one_item() -> None:
    """Position 0 attends to itself only, so a prompt of one pair computes the weights component without any cut."""
    model = Transformer(ModelConfig(), SHAPE)
    inputs = prompts()
    first = Prompts(inputs.items[:, :1], inputs.labels[:, :1], replace(inputs.layout, n_pairs=1))
    alone = model(first).hidden[:, :, 0]
    torch.testing.assert_close(decompose(model, inputs).weights[:, :, 0], alone, atol=1e-5, rtol=1e-5)


def test_unknown_cut_is_refused() -> None:
    with pytest.raises(SpecError, match="did you mean 'self'"):
        decompose(Transformer(ModelConfig(), SHAPE), prompts(), cut="selff")  # type: ignore[arg-type]
