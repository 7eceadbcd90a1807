from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from unplateau.errors import SpecError
from unplateau.items.base import ItemSource
from unplateau.items.codes import RandomCodes


def every(source: RandomCodes) -> Tensor:
    return torch.arange(len(source.factors()))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple), st.integers(1, 3))
def test_every_combination_comes_in_copies_last_factor_fastest(sizes: tuple[int, ...], copies: int) -> None:
    source = RandomCodes(sizes=sizes, copies=copies)
    factors = source.factors()
    place = torch.zeros(len(factors), dtype=torch.long)
    for factor, size in enumerate(sizes):
        place = place * size + factors[:, factor]
    assert source.factor_sizes == sizes
    assert source.factor_names == ("a", "b", "c", "d")[: len(sizes)]
    assert torch.equal(place, every(source) // copies)


def test_the_split_is_disjoint_and_complete() -> None:
    source = RandomCodes()
    train, test = source.split("train"), source.split("test")
    assert torch.equal(torch.cat([train, test]).sort().values, every(source))
    assert min(len(train), len(test)) > 16  # room for a prompt without repeats


def test_a_vector_does_not_depend_on_its_batch_or_the_global_seed() -> None:
    source, index = RandomCodes(), torch.tensor([[5, 300], [300, 511]])
    assert source.vectors(index).shape == (2, 2, 64)
    assert source.vectors(index).dtype == torch.float32
    assert torch.equal(source.vectors(index), source.vectors(every(source))[index])
    torch.manual_seed(5)
    assert torch.equal(RandomCodes(code_seed=1).vectors(index), RandomCodes(code_seed=1).vectors(index))
    assert not torch.equal(RandomCodes(code_seed=1).vectors(index), source.vectors(index))


def test_codes_are_standardised_and_all_different() -> None:
    source = RandomCodes()
    train = source.vectors(source.split("train"))
    assert train.mean().item() == pytest.approx(0, abs=1e-4)
    assert train.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert len(source.vectors(every(source)).unique(dim=0)) == len(every(source))


def test_copies_differ_by_less_than_combinations() -> None:
    codes = RandomCodes(copies=8).vectors(torch.arange(512)).view(64, 8, 64)
    within, between = codes.std(dim=1).mean(), codes.mean(dim=1).std(dim=0).mean()
    assert within < 0.5 * between
    plain = RandomCodes(copies=2, nuisance=0.0).vectors(torch.arange(128)).view(64, 2, 64)
    assert torch.equal(plain[:, 0], plain[:, 1])


def test_a_linear_read_out_tells_factors_badly() -> None:
    source = RandomCodes()
    train, test = source.split("train"), source.split("test")
    design = torch.cat([source.vectors(every(source)), torch.ones(512, 1)], dim=1).double()
    gram = design[train].T @ design[train] + 0.1 * torch.eye(65)
    for labels in source.factors().unbind(1):
        weights = torch.linalg.solve(gram, design[train].T @ one_hot(labels[train]).double())
        accuracy = ((design[test] @ weights).argmax(1) == labels[test]).double().mean().item()
        assert 0.3 < accuracy < 0.8


def test_pictures_are_stripes_of_the_code() -> None:
    source = RandomCodes(width=16)
    images = source.images(torch.tensor([[0, 100]]))
    assert images.shape == (1, 2, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images[0, 0], np.broadcast_to(images[0, 0, :1], images[0, 0].shape))
    assert np.array_equal(images[:, :, :, ::4], images[:, :, :, 3::4])
    code = source.vectors(torch.tensor([0]))[0].numpy()
    redder = images[0, 0, 0, ::4, 0].astype(int) - images[0, 0, 0, ::4, 2]
    assert np.array_equal(np.sign(redder), np.sign(code))


@pytest.mark.parametrize("sizes", [(), (1, 4), (2,) * 27])
def test_sizes_that_cannot_work(sizes: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="1 to 26 factors of at least 2 values"):
        RandomCodes(sizes=sizes)


def test_it_is_a_value() -> None:
    source = RandomCodes(sizes=(3, 5), copies=2)
    assert ItemSource.model_validate(source.model_dump(mode="json")) == source
    assert hash(source) == hash(RandomCodes(sizes=(3, 5), copies=2))
