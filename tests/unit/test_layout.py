"""Plain values: positions of a prompt, and progress between the floors."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.layout import CUTS, TaskShape
from unplateau.plateau.progress import Floors


def shape(n_pairs: int) -> TaskShape:
    return TaskShape(16, n_pairs, 4, ("hue", "size"), (4, 4), (0, 1))


def floors(start: float, end: float, progress: str) -> Floors:
    """Two positions whose mean is ``start`` for the no-context predictor and ``end`` for the Bayes-optimal one."""
    return Floors(
        no_context_loss=(start, start),
        no_context_accuracy=(start, start),
        bayes_loss=(end - 0.1, end + 0.1),
        bayes_accuracy=(end - 0.1, end + 0.1),
        bayes_loss_error=0.01,
        n_prompts=100,
        progress=progress,
    )


def progress(floors: Floors, value: float) -> float:
    """Progress at this value of the measure that counts; the other one is far off and must not matter."""
    other = {"loss": 99.0, "accuracy": 99.0}
    return floors.progress_of(**{**other, floors.progress: value})


@given(st.integers(1, 50))
def test_items_stand_at_every_second_position(n_pairs):
    positions = shape(n_pairs).query_positions
    assert len(positions) == n_pairs
    assert shape(n_pairs).n_positions == 2 * n_pairs
    assert all(position % 2 == 0 for position in positions)


ends = st.sampled_from([("loss", 1.4, 0.3), ("loss", 0.7, 0.1), ("accuracy", 0.25, 0.9), ("accuracy", 0.1, 0.6)])


@given(ends)
def test_progress_is_zero_at_no_context_and_one_at_the_optimum(case):
    name, start, end = case
    assert progress(floors(start, end, name), start) == pytest.approx(0)
    assert progress(floors(start, end, name), end) == pytest.approx(1)


@given(ends, st.floats(-1, 2))
def test_progress_is_linear_between_and_beyond(case, share):
    name, start, end = case
    assert progress(floors(start, end, name), start + share * (end - start)) == pytest.approx(share)


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        shape(4).n_pairs = 5


def test_the_default_cut_comes_first():
    assert CUTS == ("self", "item", "identity", "zero")


@given(st.integers(1, 20), st.integers(1, 6), st.sampled_from([0, 3]), st.sampled_from(["item", "position"]))
def test_positions_of_prompts_in_words(n_pairs, length, n_cues, factors_at):
    found = dataclasses.replace(shape(n_pairs), item_length=length, n_cues=n_cues, factors_at=factors_at)
    assert found.n_positions == bool(n_cues) + n_pairs * (length + 1)
    assert len(found.query_positions) == n_pairs
    assert found.query_positions[-1] == found.n_positions - 2  # the last label is the last position
    assert set(found.query_positions) <= set(found.item_positions)
    assert len(set(found.item_positions)) == n_pairs * (length if factors_at == "position" else 1)
    labels = {position + 1 for position in found.query_positions}
    assert not labels & set(found.item_positions)
