"""Labels that are bound to their items: laws of the binding score."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unplateau.probe.binding import Pairing, binding_scores

B, K, D = 48, 8, 16


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairing(bound: float, seed: int, n_rows: int = B) -> Pairing:
    """Labels that hold their item, turned and mixed with noise; items at other places, where these add something."""
    items = numbers(n_rows, K, D, seed=seed)
    turned = items @ torch.linalg.qr(numbers(D, D, seed=100))[0]
    places = 0.1 * numbers(n_rows, K, D, seed=seed + 1)
    labels = bound * turned + numbers(n_rows, K, D, seed=seed + 2)
    return Pairing(labels[None], items + places, torch.eye(K, dtype=torch.bool).expand(n_rows, K, K))


def test_bound_labels_name_their_item_and_those_of_another_prompt_do_not():
    found = binding_scores(pairing(20.0, 0), pairing(20.0, 10))
    assert found.accuracy == pytest.approx(1)
    assert found.chance == pytest.approx(1 / K)
    assert found.n_test == B * K
    assert abs(found.control - 1 / K) < 0.05


def test_noise_is_at_chance():
    scores = [binding_scores(pairing(0.0, 10 * seed), pairing(0.0, 10 * seed + 500)) for seed in range(5)]
    mean = torch.stack([one.accuracy for one in scores]).mean()
    assert abs(mean - 1 / K) < 3 * scores[0].error.mean() / 5**0.5


def test_scaling_rotating_and_the_order_of_pairs_change_nothing():
    halves = pairing(0.5, 0), pairing(0.5, 10)
    plain = binding_scores(*halves)
    turn, other = (torch.linalg.qr(numbers(D, D, seed=seed))[0] for seed in (7, 8))
    turned = [replace(half, labels=3 * half.labels @ turn, items=0.2 * half.items @ other) for half in halves]
    torch.testing.assert_close(binding_scores(*turned).accuracy, plain.accuracy)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(0))
    mixed = [replace(half, labels=half.labels[:, :, order], items=half.items[:, order]) for half in halves]
    torch.testing.assert_close(binding_scores(*mixed).accuracy, plain.accuracy)


def test_items_that_are_equal_are_both_right_and_items_without_a_label_are_no_answer():
    halves = [pairing(20.0, seed) for seed in (0, 10)]
    for number, half in enumerate(halves):
        half.items[:, 1] = half.items[:, 0]
        owner = half.owner.clone()
        owner[:, 0, 1] = owner[:, 1, 0] = True
        labels = half.labels.clone()
        labels[:, :, 1] = labels[:, :, 0]
        extra = torch.cat((half.items, half.items[:, :1]), 1)  # a query equal to the first item
        halves[number] = Pairing(labels, extra, torch.cat((owner, torch.zeros(B, K, 1, dtype=torch.bool)), 2))
    assert binding_scores(*halves).accuracy == pytest.approx(1)


def test_layers_are_judged_by_themselves():
    bound, loose = (pairing(20.0, 0), pairing(20.0, 10)), (pairing(0.0, 0), pairing(0.0, 10))
    both = [replace(one, labels=torch.cat((one.labels, other.labels))) for one, other in zip(bound, loose, strict=True)]
    found = binding_scores(*both)
    torch.testing.assert_close(found.accuracy[:1], binding_scores(*bound).accuracy)
    assert found.accuracy[1] < 0.3


def test_states_without_variation_are_at_chance():
    still = [replace(pairing(0.0, seed), labels=torch.zeros(1, B, K, D)) for seed in (0, 10)]
    assert binding_scores(*still).accuracy < 0.3
