from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as module_hooks

from unplateau.layout import Factor, Layout, TaskShape, Vectors
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.tensors import Prompts
from unplateau.train.step import count_flops

SHAPE = TaskShape(Layout(6), Vectors(5), 4, (Factor("hue", 4),), (0,), ("hue",))


def make_model(n_layers: int = 2, width: int = 8) -> tuple[Transformer, Prompts]:
    model = Transformer(ModelConfig(n_layers=n_layers, width=width, n_heads=2), SHAPE)
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(3, SHAPE.layout.n_pairs, 5, generator=generator)
    return model, Prompts(items, torch.randint(4, (3, SHAPE.layout.n_pairs), generator=generator), SHAPE.layout)


def products(batch: int, n_layers: int, width: int) -> int:
    """Analytic FLOPs of all linear layers, forward."""
    positions, pairs = SHAPE.layout.n_positions, SHAPE.layout.n_pairs
    block = 2 * batch * positions * (width * 3 * width + width * width + 2 * width * 4 * width)
    return n_layers * block + 2 * batch * pairs * (5 * width + width * SHAPE.n_labels)


def attention(batch: int, n_layers: int, width: int, n_products: int) -> int:
    """Analytic FLOPs of full attention: each product is T x T x (D / heads), for every head."""
    return n_layers * n_products * 2 * batch * SHAPE.layout.n_positions**2 * width


@pytest.mark.parametrize(("n_layers", "width"), [(1, 8), (2, 8), (3, 16)])
def test_forward_pass_matches_the_analytic_count(n_layers: int, width: int) -> None:
    model, inputs = make_model(n_layers, width)
    expected = products(3, n_layers, width) + attention(3, n_layers, width, 2)
    assert count_flops(lambda: model(inputs)) == expected


@pytest.mark.parametrize(("n_layers", "width"), [(1, 8), (3, 16)])
def test_training_step_matches_the_analytic_count(n_layers: int, width: int) -> None:
    model, inputs = make_model(n_layers, width)
    # backward: two products for each one forward, but no gradient flows into the items; attention has five products
    items = 2 * 3 * SHAPE.layout.n_pairs * 5 * width
    expected = 3 * products(3, n_layers, width) - items + attention(3, n_layers, width, 2 + 5)
    assert count_flops(lambda: model(inputs).logits.sum().backward()) == expected


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_gradient_mode_does_not_change_the_count(guard: type) -> None:
    model, inputs = make_model()

    def run() -> None:
        with guard():
            model(inputs)

    assert count_flops(run) == products(3, 2, 8) + attention(3, 2, 8, 2)


def test_causal_attention_counts_as_full_and_a_mask_agrees() -> None:
    query = torch.randn(2, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    full = 2 * 2 * (2 * 2) * 7 * 7 * 4
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    attend = functional.scaled_dot_product_attention
    assert count_flops(lambda: attend(query, query, query, is_causal=True)) == full
    assert count_flops(lambda: attend(query, query, query)) == full
    assert count_flops(lambda: attend(query, query, query, attn_mask=mask)) == full


def test_attention_cut_off_costs_less_than_causal() -> None:
    model, inputs = make_model()
    assert count_flops(lambda: model(inputs, attention="self")) < count_flops(lambda: model(inputs))


def test_nothing_to_count_is_zero() -> None:
    assert count_flops(lambda: None) == 0


def test_counting_does_not_disturb_training() -> None:
    def three_steps(counted: bool) -> list[torch.Tensor]:
        model, inputs = make_model()
        optimizer = torch.optim.Adam(model.parameters())

        def step() -> None:
            optimizer.zero_grad()
            model(inputs).logits.logsumexp(-1).sum().backward()
            optimizer.step()

        for _ in range(3):
            if counted:
                count_flops(step)
            else:
                step()
        return [parameter.detach() for parameter in model.parameters()]

    plain, counted = three_steps(False), three_steps(True)
    assert all(torch.equal(one, other) for one, other in zip(plain, counted, strict=True))


def test_no_random_number_is_consumed() -> None:
    model, inputs = make_model()
    before = torch.random.get_rng_state()
    count_flops(lambda: model(inputs).logits.sum().backward())
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_hook_or_mode_is_left_behind_even_after_an_error() -> None:
    def fail() -> None:
        nn.Linear(2, 2)(torch.zeros(1, 2))
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        count_flops(fail)
    assert not module_hooks._global_forward_pre_hooks
    assert not module_hooks._global_forward_hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert count_flops(lambda: nn.Linear(2, 2)(torch.zeros(1, 2))) == 2 * 2 * 2
