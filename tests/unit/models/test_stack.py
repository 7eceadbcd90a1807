"""A stack of Transformers computes what each of them computes alone, and so do its gradients."""

from __future__ import annotations

import pytest
import torch

import unplateau as up
from unplateau.models.stack import Stack
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.tasks.base import Task
from unplateau.tensors import Batch

CODES = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8, copies=20), n_pairs=4)
MODELS: list[tuple[Task, ModelConfig]] = [
    (CODES, ModelConfig(n_layers=2, width=8)),
    (CODES, ModelConfig(n_layers=1, width=8, n_heads=4, labels_carry_items=True)),
    (up.AssociativeRecall(), ModelConfig(n_layers=2, width=8, init="gpt2")),
    (up.LinearRegression(n_pairs=6), ModelConfig(n_layers=1, width=8)),
]


def built(task: Task, config: ModelConfig, n_models: int = 3) -> tuple[list[Transformer], list[Batch]]:
    """Models and their batches, in float64."""
    models = [config.build(task.shape, seed=seed).double() for seed in range(n_models)]
    batches = [task.sample(0, batch_size=4, seed=seed) for seed in range(n_models)]
    return models, [batch.map(lambda one: one.double() if one.is_floating_point() else one) for batch in batches]


@pytest.mark.parametrize(("task", "config"), MODELS)
def test_predictions_and_gradients_are_those_of_each_alone(task: Task, config: ModelConfig) -> None:
    models, batches = built(task, config)
    together = Stack(models).predict([batch.inputs for batch in batches])
    generator = torch.Generator().manual_seed(0)
    for model, batch, stacked in zip(models, batches, together, strict=True):
        alone = model.predict_queries(batch.inputs)
        its = [(alone.logits, stacked.logits), (alone.at_queries, stacked.at_queries)]
        its += [(alone.after(layer), stacked.after(layer)) for layer in range(config.n_layers + 1)]
        gradients = []
        for side in zip(*its, strict=True):
            generator.manual_seed(1)
            total = sum((one * torch.randn(one.shape, generator=generator, dtype=one.dtype)).sum() for one in side)
            gradients.append(torch.autograd.grad(total, list(model.parameters()), retain_graph=True))
        for one, other in (*its, *zip(*gradients, strict=True)):
            assert one.shape == other.shape
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_a_model_that_is_not_a_number_harms_no_other() -> None:
    models, batches = built(*MODELS[0])
    with torch.no_grad():
        models[1].final_norm.weight.fill_(torch.nan)
    together = Stack(models).predict([batch.inputs for batch in batches])
    torch.autograd.backward([one.logits.sum() for one in together])
    for number, model in enumerate(models):
        finite = all(bool(weight.grad.isfinite().all()) for weight in model.parameters() if weight.grad is not None)
        assert finite is (number != 1)


def test_what_is_frozen_gets_no_gradient_also_beside_one_that_is_not() -> None:
    models, batches = built(*MODELS[0])
    models[0].item_embedding.requires_grad_(requires_grad=False)
    together = Stack(models).predict([batch.inputs for batch in batches])
    torch.autograd.backward([one.logits.sum() for one in together])
    assert models[0].item_embedding.weight.grad is None
    assert models[1].item_embedding.weight.grad is not None


def test_the_token_that_stands_for_none_gets_no_gradient() -> None:
    models, batches = built(up.AssociativeRecall(), MODELS[2][1])
    for batch in batches:
        batch.inputs.items[:, :2] = 0
    together = Stack(models).predict([batch.inputs for batch in batches])
    torch.autograd.backward([one.logits.square().sum() for one in together])
    for model in models:
        gradient = model.item_embedding.weight.grad
        assert gradient is not None
        assert not gradient[0].any()
        assert gradient[1:].any()
