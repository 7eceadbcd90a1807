"""Sparse parity: labels are products of signs; the exact predictor is that of enumeration."""

import itertools
from math import prod

import pytest
import torch

from unplateau.tasks.parity import SparseParity
from unplateau.tensors import Prompts

TASK = SparseParity(n_signs=5, degree=2, n_pairs=6)


def items_of(batch: object) -> list[list[list[int]]]:
    inputs = batch.inputs  # type: ignore[attr-defined]
    assert isinstance(inputs, Prompts)
    return inputs.items.int().tolist()


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_the_label_is_the_product_of_the_hidden_signs(degree: int) -> None:
    task = SparseParity(n_signs=5, degree=degree)
    subsets = list(itertools.combinations(range(5), degree))
    batch = task.sample(0, batch_size=50)
    for items, labels, hidden in zip(
        items_of(batch), batch.targets.tolist(), batch.hidden_factor.tolist(), strict=True
    ):
        assert [prod(item[sign] for sign in subsets[hidden]) for item in items] == [2 * label - 1 for label in labels]
    names = tuple(" and ".join(f"sign {sign + 1}" for sign in subset) for subset in subsets)
    assert task.shape.choices == names


@pytest.mark.parametrize("n_mappings", [None, 1, 4])
def test_the_bayes_predictor_equals_enumeration(n_mappings: int | None) -> None:
    task = TASK.model_copy(update={"n_mappings": n_mappings})
    batch = task.sample(0, batch_size=40)
    found = task.bayes_predictions(batch)
    subsets = [list(itertools.combinations(range(5), 2))[number] for number in task._possible().tolist()]
    for row, (items, labels) in enumerate(zip(items_of(batch), batch.targets.tolist(), strict=True)):
        for k in range(6):
            alive = [
                subset
                for subset in subsets
                if all(prod(items[i][sign] for sign in subset) == 2 * labels[i] - 1 for i in range(k))
            ]
            share = sum(prod(items[k][sign] for sign in subset) > 0 for subset in alive) / len(alive)
            assert found[row, k].tolist() == pytest.approx([1 - share, share])


def test_the_subsets_of_a_table_are_different_ones_and_all_prompts_of_d_fix_hide_the_same() -> None:
    assert len(SparseParity(n_mappings=15)._possible().unique()) == 15
    assert len(TASK.fixed().sample(0, batch_size=50).hidden_factor.unique()) == 1
    assert len({int(TASK.fixed(variant)._possible()) for variant in range(20)}) > 3


def test_factors_are_the_signs() -> None:
    batch, alone = TASK.sample(0, batch_size=4), TASK.sample_items(0, n_items=9)
    assert torch.equal(torch.tensor(items_of(batch)), 2 * batch.factors - 1)
    assert torch.equal(alone.inputs, 2.0 * alone.factors - 1)
    moved = TASK.shuffled().sample(0, batch_size=40)
    assert (torch.tensor(items_of(moved)) == 2 * moved.factors - 1).double().mean() < 0.7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"degree": 7}, "degree 7 is more than the 6 signs"),
        ({"n_signs": 20, "degree": 5}, "15504 subsets, at most 2000"),
        ({"n_mappings": 16}, "n_mappings 16 is more than the 15 subsets"),
        ({"n_signs": 21}, "n_signs"),
        ({"n_signs": 2, "test_fraction": 0.9}, "test_fraction 0.9 leaves none of the 4 items for training"),
    ],
)
def test_what_cannot_work_is_refused(data: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseParity.model_validate(data)


def test_people_see_signs_and_the_rule() -> None:
    task = SparseParity()
    batch = task.sample(0, batch_size=2)
    shown = task.shown(batch)
    first = items_of(batch)[0][0]
    assert shown.texts is not None
    assert shown.rules is not None
    assert shown.texts[0][0] == "".join("+" if sign > 0 else "-" for sign in first)
    assert shown.rules[0] == f"The label is the product of {task.shape.choices[batch.hidden_factor[0]]}."
