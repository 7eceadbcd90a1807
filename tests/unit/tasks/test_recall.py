"""Associative recall: keys recur and keep their labels; the exact predictors are those of enumeration."""

import itertools

import pytest
import torch

from unplateau.tasks.recall import AssociativeRecall
from unplateau.tensors import Prompts

SMALL = AssociativeRecall(n_keys=10, keys_per_prompt=2, n_labels=2, n_pairs=4)


@pytest.mark.parametrize("n_mappings", [None, 1, 3])
def test_a_key_has_one_label_in_a_prompt(n_mappings: int | None) -> None:
    batch = SMALL.model_copy(update={"n_mappings": n_mappings}).sample(0, batch_size=200)
    for keys, labels in zip(batch.item_index.tolist(), batch.targets.tolist(), strict=True):
        assert len(set(keys)) <= 2
        assert len(set(zip(keys, labels, strict=True))) == len(set(keys))
    assert isinstance(batch.inputs, Prompts)
    assert torch.equal(batch.inputs.items[..., 0, 0] - 1, batch.item_index)


def test_test_prompts_are_made_of_a_fixed_share_of_the_keys_and_training_of_all() -> None:
    task = AssociativeRecall()
    train, test = (task.sample(0, batch_size=200, split=split).item_index.unique() for split in ("train", "test"))
    assert len(train) == 64
    assert len(test) == 13


@pytest.mark.parametrize("n_mappings", [None, 1, 2, 5])
def test_the_bayes_predictor_equals_enumeration(n_mappings: int | None) -> None:
    """Over all labellings of the two keys, or of the table, that agree with the pairs before."""
    task = SMALL.model_copy(update={"n_mappings": n_mappings})
    batch = task.sample(0, batch_size=30)
    found, table = task.bayes_predictions(batch), task._table()
    for row, (keys, labels) in enumerate(zip(batch.item_index.tolist(), batch.targets.tolist(), strict=True)):
        names = sorted(set(keys))
        fresh = [dict(zip(names, drawn, strict=True)) for drawn in itertools.product(range(2), repeat=len(names))]
        mappings = fresh if table is None else [dict(enumerate(one)) for one in table.tolist()]
        for k, key in enumerate(keys):
            alive = [one for one in mappings if all(one[keys[i]] == labels[i] for i in range(k))]
            share = sum(one[key] for one in alive) / len(alive)
            assert found[row, k].tolist() == pytest.approx([1 - share, share])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"keys_per_prompt": 14}, "keys_per_prompt 14 is more than the 13 keys of test prompts"),
        ({"n_keys": 5}, "keys_per_prompt 8 is more than the 1 keys"),
        ({"n_pairs": 1}, "n_pairs"),
        ({"n_labels": 1}, "n_labels"),
    ],
)
def test_what_cannot_work_is_refused(data: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AssociativeRecall.model_validate(data)


def test_people_see_keys() -> None:
    batch = SMALL.sample(0, batch_size=2)
    assert SMALL.shown(batch).texts[1][2] == f"key {batch.item_index[1, 2]}"  # type: ignore[index]
