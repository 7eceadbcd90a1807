"""Plain values: positions of a prompt, and progress between the floors."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.errors import SpecError
from unplateau.layout import CUTS, Factor, Layout, TaskShape, Vectors
from unplateau.plateau.floors import Floors

HUE, SIZE = Factor("hue", 4), Factor("size", 4)
SHAPE = TaskShape(Layout(3), Vectors(16), 4, (HUE, SIZE), (0, 1), ("hue", "size"))


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
    positions = Layout(n_pairs).queries
    assert len(positions) == n_pairs
    assert Layout(n_pairs).n_positions == 2 * n_pairs
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


def test_numbers_have_no_accuracy():
    found = dataclasses.replace(floors(1, 0.2, "loss"), no_context_accuracy=None, bayes_accuracy=None)
    assert found.progress_of(loss=0.6, accuracy=None) == pytest.approx(0.5)
    assert found.loss_unit == "in units of the labels' variance"
    assert floors(1, 0.2, "loss").loss_unit == "nats"
    with pytest.raises(SpecError, match="have no accuracy"):
        found.levels("accuracy")


def test_factors_that_say_which_item_it_is_are_not_probed():
    shape = dataclasses.replace(SHAPE, factors=(Factor("class", 9, identity=True), SIZE))
    assert shape.probed == (1,)


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SHAPE.n_labels = 5


def test_the_default_cut_comes_first():
    assert CUTS == ("self", "item", "identity", "zero")


layouts = st.builds(
    Layout, st.integers(1, 20), st.integers(1, 6), st.booleans(), factors_at=st.sampled_from(["item", "position"])
)


@given(layouts)
def test_every_position_is_a_cue_a_place_of_an_item_or_a_label(layout):
    assert layout.n_positions == layout.first + layout.n_pairs * (layout.item_length + 1)
    assert layout.first == layout.cue
    assert layout.labels[-1] == layout.n_positions - 1
    assert [query + 1 for query in layout.queries] == list(layout.labels)
    assert len(layout.queries) == layout.n_pairs
    assert set(layout.queries) <= set(layout.known)
    assert len(set(layout.known)) == layout.n_pairs * (layout.item_length if layout.in_lists else 1)
    assert not set(layout.labels) & set(layout.known)


@given(layouts)
def test_a_unit_is_an_item_with_factors_and_else_a_position(layout):
    members = {unit: [at for at, one in enumerate(layout.units) if one == unit] for unit in layout.units}
    assert len(layout.units) == layout.n_positions
    for unit, places in members.items():
        whole = not layout.in_lists and unit in layout.queries
        assert places == list(range(unit - (layout.item_length - 1 if whole else 0), unit + 1))


def test_what_a_prompt_hides_is_numbered_among_the_factors_or_the_choices():
    assert SHAPE.hides_factors
    assert SHAPE.n_hidden == 2
    topics = dataclasses.replace(SHAPE, choices=("animal", "food", "person"))
    assert not topics.hides_factors
    assert topics.n_hidden == 3
