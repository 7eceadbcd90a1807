"""The losses are what their formulas say, and keep what a reader would expect of them."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unplateau.strategies.functional import bind_loss, earlier, look_loss, match_loss, vote_loss

SEEDS = st.integers(0, 1000)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(seed: int, *shape: int, n: int = 3) -> Tensor:
    return torch.randint(n, shape, generator=torch.Generator().manual_seed(seed))


def all_there(labels: Tensor) -> Tensor:
    return earlier(torch.ones_like(labels, dtype=torch.bool))


def rotation(width: int) -> Tensor:
    return torch.linalg.qr(draw(5, width, width))[0]


def test_earlier_leaves_out_the_pair_itself_later_ones_and_padding() -> None:
    seen = earlier(torch.tensor([[True, False, True, True]]))
    assert seen.int().tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]]]


@given(SEEDS)
def test_match_loss_of_classes_is_a_matching_network(seed: int) -> None:
    states, labels = draw(seed, 2, 6, 4), classes(seed, 2, 6)
    losses = []
    for row in range(2):
        for k in range(1, 6):
            similar = torch.stack([functional.cosine_similarity(states[row, k], one, dim=0) for one in states[row, :k]])
            votes = (7.0 * similar).softmax(0)
            right = labels[row, :k] == labels[row, k]
            if right.any():
                losses.append(-math.log((float(votes[right].sum()) + 1e-6) / (1 + 1e-6)))
    expected = sum(losses) / max(1, len(losses))
    assert float(match_loss(states, labels, all_there(labels), scale=7.0)) == pytest.approx(expected, rel=1e-9)


@given(SEEDS)
def test_match_loss_keeps_under_rotation_scaling_and_names_of_classes(seed: int) -> None:
    states, labels = draw(seed, 2, 6, 4), classes(seed, 2, 6)
    value = match_loss(states, labels, all_there(labels))
    assert match_loss(3 * states @ rotation(4), labels, all_there(labels)).item() == pytest.approx(value.item())
    renamed = torch.tensor([2, 0, 1])[labels]
    assert match_loss(states, renamed, all_there(labels)).item() == pytest.approx(value.item())


def test_match_loss_is_near_zero_where_items_of_a_class_are_equal_and_the_others_opposite() -> None:
    labels = classes(0, 4, 8, n=2)
    states = (2.0 * labels - 1)[..., None].expand(-1, -1, 3)
    assert float(match_loss(states, labels, all_there(labels))) < 1e-4
    assert float(match_loss(draw(0, 4, 8, 3), labels, all_there(labels))) > 0.3


@given(SEEDS)
def test_bind_loss_is_the_cross_entropy_of_the_owner(seed: int) -> None:
    label_states, item_states = draw(seed, 2, 5, 4), draw(seed + 1, 2, 5, 4)
    owner = torch.eye(5, dtype=torch.bool).expand(2, 5, 5)
    cosine = functional.cosine_similarity(label_states[:, :, None], item_states[:, None], dim=-1)
    expected = functional.cross_entropy(10 * cosine.flatten(0, 1), torch.arange(5).repeat(2))
    assert bind_loss(label_states, item_states, owner).item() == pytest.approx(expected.item())


def test_bind_loss_lets_a_label_name_any_item_that_equals_its_own() -> None:
    items = draw(0, 1, 4, 6)
    items[0, 3] = items[0, 1]
    owner = (items[:, :, None] == items[:, None]).all(-1)
    assert float(bind_loss(items, items, owner, scale=50.0)) < 1e-3
    assert float(bind_loss(items, items, torch.eye(4, dtype=torch.bool)[None], scale=50.0)) > 0.3


@given(SEEDS)
def test_look_loss_is_the_mass_on_earlier_labels_of_the_right_class(seed: int) -> None:
    attention, labels = draw(seed, 2, 3, 5, 5).softmax(-1), classes(seed, 2, 5)
    mass = attention.mean(1)
    losses = [
        -math.log((float(mass[row, k, :k][labels[row, :k] == labels[row, k]].sum()) + 1e-6) / (1 + 1e-6))
        for row in range(2)
        for k in range(5)
        if (labels[row, :k] == labels[row, k]).any()
    ]
    value = look_loss(attention, labels, labels, all_there(labels))
    assert float(value) == pytest.approx(sum(losses) / max(1, len(losses)))


@given(SEEDS)
def test_votes_for_numbers_give_the_share_that_no_scaling_of_them_explains(seed: int) -> None:
    votes, labels = draw(seed, 3, 6, 6).softmax(-1), draw(seed + 1, 3, 6)
    seen = all_there(labels)
    centre = labels[:, 1:].mean()
    vote = ((votes * seen) @ (labels - centre)[..., None])[:, 1:, 0].flatten()
    wanted = (labels - centre)[:, 1:].flatten()
    best = (vote @ wanted) / (vote @ vote)
    expected = ((wanted - best * vote) ** 2).sum() / (wanted**2).sum()
    value = vote_loss(votes, labels, labels, seen)
    assert value.item() == pytest.approx(expected.item())
    assert vote_loss(votes, 5 * labels + 2, 5 * labels + 2, seen).item() == pytest.approx(value.item())
    assert vote_loss(0.1 * votes, labels, labels, seen).item() == pytest.approx(value.item())


def test_a_single_vote_that_is_right_costs_nothing() -> None:
    labels = torch.tensor([[1, 1]])
    value = match_loss(draw(0, 1, 2, 3).float(), labels, all_there(labels)).item()
    assert 0 <= value < 1e-6


def test_votes_that_are_right_cost_nothing() -> None:
    labels = draw(0, 2, 5).repeat_interleave(2, 1)  # each number twice
    previous = torch.eye(10, dtype=torch.float64).roll(1, 0).expand(2, -1, -1) * (torch.arange(10) % 2)[:, None]
    seen = all_there(labels) & (torch.arange(10) % 2 == 1)[:, None]
    assert vote_loss(previous, labels, labels, seen).item() == pytest.approx(0, abs=1e-9)


def loss_with_nothing_to_tell(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    def match(states: Tensor, labels: Tensor) -> Tensor:
        return match_loss(states, labels, torch.zeros(2, 4, 4, dtype=torch.bool))

    def bind(states: Tensor, labels: Tensor) -> Tensor:
        return bind_loss(states, states + 1, torch.zeros(2, 4, 4, dtype=torch.bool))

    def look(states: Tensor, labels: Tensor) -> Tensor:
        attention = (states @ states.transpose(1, 2)).softmax(-1)[:, None]
        return look_loss(attention, labels, labels, torch.zeros(2, 4, 4, dtype=torch.bool))

    return {"match": match, "bind": bind, "look": look}[name]


@pytest.mark.parametrize("name", ["match", "bind", "look"])
@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
def test_nothing_to_tell_gives_zero_with_a_finite_gradient(name: str, numbers: bool) -> None:
    states = draw(0, 2, 4, 3).requires_grad_()
    value = loss_with_nothing_to_tell(name)(states, draw(1, 2, 4) if numbers else classes(1, 2, 4))
    assert float(value.detach()) == 0
    value.backward()
    assert states.grad is not None
    assert bool(states.grad.isfinite().all())


@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
def test_padding_changes_nothing(numbers: bool) -> None:
    labels = draw(1, 2, 5) if numbers else classes(1, 2, 5)
    states, attention = draw(0, 2, 5, 4), draw(2, 2, 3, 5, 5).softmax(-1)
    there = torch.ones(2, 5, dtype=torch.bool)
    there[:, 4] = False
    whole = earlier(there[:, :4])
    seen = earlier(there)
    junk = labels.clone()
    junk[:, 4] = 2
    assert match_loss(states, junk, seen).item() == pytest.approx(
        match_loss(states[:, :4], labels[:, :4], whole).item()
    )
    cut = look_loss(attention[:, :, :4, :4], labels[:, :4], labels[:, :4], whole)
    assert look_loss(attention, junk, junk, seen).item() == pytest.approx(cut.item())
