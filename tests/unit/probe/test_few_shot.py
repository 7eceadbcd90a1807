"""Items that stand out: laws of the few-shot score and the share of variance."""

import pytest
import torch
from torch import Tensor

from unplateau.probe.few_shot import FewShot, few_shot_scores, variance_share

B, M, D, V = 40, 12, 24, 4
N = B * M


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(seed: int = 1) -> Tensor:
    return torch.randint(V, (N, 2), generator=torch.Generator().manual_seed(seed))


def standing_out(of_items: Tensor, strength: float) -> Tensor:
    """(1, N, D): noise, and a direction for each value of the first factor."""
    return (numbers(N, D) + strength * numbers(V, D, seed=2)[of_items[:, 0]])[None]


def scores(states: Tensor, of_items: Tensor) -> FewShot:
    """Of items that are all distinct."""
    return few_shot_scores(states.unflatten(1, (B, M)), of_items.view(B, M, -1), torch.arange(N).view(B, M))


def test_a_planted_factor_is_told_and_the_other_is_not():
    found = scores(standing_out(values(), 100.0), values())
    assert found.accuracy[0, 0] == 1
    assert found.share[0, 0] == pytest.approx(1, abs=1e-3)
    assert abs(found.accuracy[0, 1] - found.chance[1]) < 4 * found.error[0, 1]
    assert abs(found.share[0, 1]) < 0.03


def test_noise_is_at_chance_and_so_is_the_control():
    noise = [scores(numbers(3, N, D, seed=seed), values(seed + 9)) for seed in range(5)]
    for name in ("accuracy", "control"):
        apart = torch.stack([getattr(one, name) - one.chance for one in noise])
        assert abs(apart.mean()) < 0.02
    planted = scores(standing_out(values(), 100.0), values())
    assert (planted.control - planted.chance).abs().max() < 0.12
    assert abs(torch.stack([one.share for one in noise]).mean()) < 0.003


def test_a_factor_with_a_small_share_of_the_variance_is_not_told_from_a_dozen():
    """What a linear probe of hundreds of items would name almost always."""
    weak = scores(standing_out(values(), 0.35), values())
    strong = scores(standing_out(values(), 1.5), values())
    assert weak.accuracy[0, 0] < 0.55
    assert weak.share[0, 0] < 0.15
    assert strong.accuracy[0, 0] > 0.9
    assert strong.share[0, 0] > 0.5


def test_scaling_and_rotating_states_changes_nothing():
    states = standing_out(values(), 1.0)
    rotation = torch.linalg.qr(numbers(D, D, seed=5))[0]
    scales = numbers(1, N, 1, seed=6).abs() + 0.1
    plain = scores(states, values())
    turned = scores(7 * scales * states @ rotation, values())
    torch.testing.assert_close(turned.accuracy, plain.accuracy)
    torch.testing.assert_close(turned.share, plain.share)


def test_the_order_of_pairs_and_the_names_of_values_do_not_matter():
    states = standing_out(values(), 1.0)
    plain = scores(states, values())
    order = torch.randperm(M, generator=torch.Generator().manual_seed(3))
    mixed = (torch.arange(N).view(B, M)[:, order]).flatten()
    torch.testing.assert_close(scores(states[:, mixed], values()[mixed]).accuracy, plain.accuracy)
    torch.testing.assert_close(scores(states[:, mixed], values()[mixed]).share, plain.share)
    torch.testing.assert_close(scores(states, V - 1 - values()).accuracy, plain.accuracy)


def test_states_that_are_all_alike_say_nothing():
    found = scores(torch.ones(1, N, D), values())
    assert (found.accuracy[0] - found.chance).abs().max() < 0.06
    assert (found.share == 0).all()


def test_items_that_share_their_value_with_no_other_do_not_count():
    states, of_items = numbers(1, 2, 3, D), torch.tensor([[0, 0, 1], [0, 1, 2]])[..., None]
    found = few_shot_scores(states, of_items, torch.arange(6).view(2, 3))
    assert found.n_test.tolist() == [2]
    assert found.accuracy.isfinite().all()
    assert few_shot_scores(states[:, 1:], of_items[1:], torch.arange(3)[None]).accuracy.isnan().all()


def test_an_item_does_not_tell_of_its_equals():
    """Every item stands twice in its prompt, and shares its value with its twin alone."""
    states = numbers(1, B, M, D)
    states[:, :, M // 2 :] = states[:, :, : M // 2]
    twins = torch.arange(M // 2).repeat(2).expand(B, M)
    distinct = few_shot_scores(states, twins[..., None], torch.arange(N).view(B, M))
    assert distinct.accuracy == 1
    equal = few_shot_scores(states, twins[..., None], twins + M * torch.arange(B)[:, None])
    assert equal.n_test == 0


def test_the_error_is_that_of_items_and_not_of_draws():
    """Over other samples of items the accuracy varies about as much as its error says."""

    def drawn(seed: int) -> Tensor:
        return (numbers(N, D, seed=seed + 50) + 0.7 * numbers(V, D, seed=2)[values(seed)[:, 0]])[None]

    found = [scores(drawn(seed), values(seed)) for seed in range(12)]
    accuracies, errors = (torch.stack([getattr(one, name)[0, 0] for one in found]) for name in ("accuracy", "error"))
    assert 0.4 < accuracies.std() / errors.mean() < 2.5


def test_share_of_two_groups_is_the_textbooks():
    states = torch.tensor([[[0.0], [2.0], [4.0], [6.0]]], dtype=torch.float64)  # means 1 and 5, within 4, between 16
    assert variance_share(states, torch.tensor([0, 0, 1, 1])) == pytest.approx((16 - 2) / (20 + 2))
