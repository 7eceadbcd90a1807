from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unplateau.errors import SpecError
from unplateau.items.base import factor_table
from unplateau.items.shapes3d.images import FULL_SIZES, Grid


def test_everything_is_kept_by_default() -> None:
    assert [len(values) for values in Grid().kept()] == list(FULL_SIZES)


def test_the_small_grid_has_5120_images() -> None:
    sizes = [len(values) for values in Grid.small().kept()]
    assert sizes == [4, 4, 4, 4, 4, 5]
    assert torch.tensor(sizes).prod() == 5120


@pytest.mark.parametrize("values", [(), (1, 1), (2, 1), (-1, 0)])
def test_indices_must_increase_from_zero_up(values: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="increasing"):
        Grid(scale=values)


def test_an_index_beyond_the_factor_is_named() -> None:
    with pytest.raises(SpecError, match=r"grid\.shape: index 4 does not exist; it goes from 0 to 3"):
        Grid(shape=(0, 4)).kept()


def test_a_grid_is_hashable_and_survives_json() -> None:
    assert hash(Grid.small()) == hash(Grid.model_validate_json(Grid.small().model_dump_json()))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple))
def test_the_table_counts_with_the_last_factor_fastest(sizes: tuple[int, ...]) -> None:
    table = factor_table(sizes)
    place = torch.zeros(len(table), dtype=torch.long)
    for factor, size in enumerate(sizes):
        place = place * size + table[:, factor]
    assert table.shape == (torch.tensor(sizes).prod(), len(sizes))
    assert torch.equal(place, torch.arange(len(table)))
