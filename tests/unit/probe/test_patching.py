"""Patches between models that differ in one thing, which is known."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from unplateau.decompose import decompose
from unplateau.errors import SpecError
from unplateau.items.codes import RandomCodes
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.probe.patching import Patch, patch, replace_component
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask

TASK = FactorTask(source=RandomCodes(sizes=(4, 3), width=12), n_pairs=6)
CONFIG = ModelConfig(n_layers=2, width=16, n_heads=2)


def changed(model: Transformer, *modules: str) -> Transformer:
    """A copy with other weights in these modules."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.startswith(modules):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return other


def found(patches: tuple[Patch, ...], what: str, block: int, head: int | None = None) -> Patch:
    (one,) = [one for one in patches if (one.what, one.block, one.head) == (what, block, head)]
    return one


@pytest.mark.parametrize("task", [TASK, Clusters(n_pairs=6)], ids=["codes", "clusters"])
def test_patches_of_a_model_into_itself_change_nothing(task: FactorTask | Clusters) -> None:
    model = Transformer(CONFIG, task.shape)
    before = copy.deepcopy(model.state_dict())
    result = patch(model, model, task, n_prompts=32)
    assert result.own == result.other
    assert len(result.patches) == 2 * (1 + 2) + 2
    for one in result.patches:
        assert one.progress == pytest.approx(result.own, abs=1e-5)
    assert any(one.control != pytest.approx(result.own, abs=1e-5) for one in result.patches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_makes_the_difference_carries_all_of_it_over() -> None:
    """Where queries and keys of block 1 differ, its attention is all; where items enter otherwise, their components."""
    model = Transformer(CONFIG, TASK.shape)
    looks = changed(model, "blocks.0.attention.query_key_value")
    with torch.no_grad():  # values stay
        looks.blocks[0].attention.query_key_value.weight[32:] = model.blocks[0].attention.query_key_value.weight[32:]
        looks.blocks[0].attention.query_key_value.bias[32:] = model.blocks[0].attention.query_key_value.bias[32:]
    result = patch(model, looks, TASK, n_prompts=32)
    assert result.own != pytest.approx(result.other, abs=1e-4)
    assert found(result.patches, "block", 1).progress == pytest.approx(result.other, abs=1e-5)
    assert found(result.patches, "weights", 2).progress == pytest.approx(result.own, abs=1e-5)
    items = patch(model, changed(model, "item_embedding"), TASK, n_prompts=32)
    assert found(items.patches, "weights", 2).progress != pytest.approx(items.own, abs=1e-4)


def test_a_component_at_chosen_layers_and_positions() -> None:
    task = FactorTask(source=RandomCodes(sizes=(3, 3), width=8), n_pairs=4)
    model = Transformer(ModelConfig(n_layers=3, width=16), task.shape, seed=1)
    inputs, others = (task.sample(step, batch_size=5).inputs for step in range(2))
    own, other = decompose(model, inputs), decompose(model, others)
    for component in ("weights", "context", "hidden"):
        same = replace_component(model, inputs, own, component=component, layers=range(4))
        assert_close(same.hidden, own.hidden, atol=1e-5, rtol=1e-5)
        one = replace_component(model, inputs, other, component=component, layers=2, positions=[3])
        taken = {
            "weights": own.context[2] + other.weights[2],
            "context": own.weights[2] + other.context[2],
            "hidden": other.hidden[2],
        }[component]
        assert_close(one.hidden[2][:, 3], taken[:, 3], atol=1e-5, rtol=1e-5)
        assert torch.equal(one.hidden[:2], own.hidden[:2])
        assert torch.equal(one.hidden[3][:, :3], own.hidden[3][:, :3])  # later positions see it, earlier ones don't
        assert not torch.equal(one.hidden[3][:, 4:], own.hidden[3][:, 4:])
    all_of_it = replace_component(model, inputs, other, component="hidden", layers=0)
    with torch.no_grad():
        assert_close(all_of_it.logits, model(others).logits)
    last = replace_component(model, inputs, other, layers=[1], positions=-1)
    assert torch.equal(last.hidden[1][:, :-1], own.hidden[1][:, :-1])
    assert not torch.equal(last.hidden[1][:, -1], own.hidden[1][:, -1])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"layers": 4}, "layers: there is no 4; there are 0 to 3"),
        ({"layers": 1, "positions": [8]}, "positions: there is no 8; there are -8 to 7"),
        ({"layers": 1, "component": "contxt"}, "unknown component 'contxt'; did you mean 'context'"),
    ],
)
def test_what_is_not_there_is_named(asked: dict[str, Any], says: str) -> None:
    task = FactorTask(source=RandomCodes(sizes=(3, 3), width=8), n_pairs=4)
    model = Transformer(ModelConfig(n_layers=3, width=16), task.shape)
    inputs = task.sample(0, batch_size=2).inputs
    with pytest.raises(SpecError, match=re.escape(says)):
        replace_component(model, inputs, decompose(model, inputs), **asked)
    with pytest.raises(SpecError, match="do not fit"):
        replace_component(model, inputs, decompose(model, task.sample(0, batch_size=3).inputs), layers=1)
