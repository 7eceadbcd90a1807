"""Patches between models that differ in one thing, which is known."""

from __future__ import annotations

import copy

import pytest
import torch

from unplateau.items.codes import RandomCodes
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.probe.patching import Patch, patch
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
