"""The grid of a sweep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.errors import SpecError
from unplateau.items.codes import RandomCodes
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec, expand, read_axis

PLAIN = RunSpec(task=FactorTask(source=RandomCodes(), n_pairs=4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.lr=1e-3,0.1", ("train.lr", (0.001, 0.1))),
        ("strategy=plain,mixed+component-loss", ("strategy", ("plain", "mixed+component-loss"))),
        ("task.n_mappings=1,null", ("task.n_mappings", (1, None))),
        ("task.source.sizes=[3,3],[4,4]", ("task.source.sizes", ([3, 3], [4, 4]))),
    ],
)
def test_axes_are_lists_of_yaml_values(text: str, expected: object) -> None:
    assert read_axis(text) == expected


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
)
def test_every_combination_once_the_seed_fastest(steps: list[int], pairs: list[int], n_seeds: int) -> None:
    axes = [("train.steps", tuple(steps)), ("task.n_pairs", tuple(pairs))]
    found = [(one.train.steps, one.task.n_pairs, one.seed) for one in expand(PLAIN, axes, range(n_seeds))]
    assert found == [(step, pair, seed) for step in steps for pair in pairs for seed in range(n_seeds)]


def test_no_axis_gives_the_seeds() -> None:
    assert [one.seed for one in expand(PLAIN, [], range(2, 5))] == [2, 3, 4]


def test_values_that_mean_the_same_give_one_run() -> None:
    assert len(expand(PLAIN, [("strategy", ("plain", "plain"))], [0])) == 1


@pytest.mark.parametrize("text", ["train.lr=", "train.lr", "=1,2", "train.lr=[1"])
def test_wrong_axes(text: str) -> None:
    with pytest.raises(SpecError):
        read_axis(text)


def test_an_axis_given_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="given twice"):
        expand(PLAIN, [("seed", (0,)), ("seed", (1,))], [0])
