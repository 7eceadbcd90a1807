"""Random numbers as a function of (seed, stream, step)."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unplateau.rng import fold, fold_seed

keys = st.tuples(st.integers(), st.text(max_size=12), st.integers(0))


def numbers(key: tuple[int, str, int], n: int = 8) -> torch.Tensor:
    return torch.rand(n, generator=fold(*key), dtype=torch.float64)


@given(keys)
def test_the_same_key_gives_the_same_numbers(key):
    assert torch.equal(numbers(key), numbers(key))


@given(keys, keys)
def test_different_keys_give_different_seeds(key, other):
    assert (key == other) == (fold_seed(*key) == fold_seed(*other))


@given(keys)
def test_seeds_fit_what_torch_accepts(key):
    assert 0 <= fold_seed(*key) < 2**63


@given(keys, st.integers(0, 2**32 - 1))
def test_global_generators_neither_matter_nor_move(key, seed):
    expected = numbers(key)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(numbers(key), expected)
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_drawing_from_one_leaves_another_alone():
    expected = numbers((0, "items", 3))
    first, second = fold(0, "items", 3), fold(0, "items", 3)
    torch.rand(1_000, generator=first)
    assert torch.equal(torch.rand(8, generator=second, dtype=torch.float64), expected)


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ((0, "items", 0), (1, "items", 0)),
        ((0, "items", 0), (0, "items", 1)),
        ((0, "items", 0), (0, "labels", 0)),
        ((1, "items", 2), (2, "items", 1)),
    ],
)
def test_neighbouring_streams_are_uncorrelated(key, other):
    n = 100_000
    correlation = torch.corrcoef(torch.stack((numbers(key, n), numbers(other, n))))[0, 1]
    assert abs(correlation) < 4 / n**0.5  # four standard errors


def test_step_defaults_to_zero():
    assert fold_seed(5, "probe") == fold_seed(5, "probe", 0)


def test_seeds_are_the_same_on_every_machine():
    assert fold_seed(0, "items", 7) == 8148527351305253234
