"""The exact predictors against enumeration of every hypothesis."""

from itertools import permutations

import pytest
import torch

from unplateau.items.codes import RandomCodes
from unplateau.tasks.factors import FactorTask
from unplateau.tensors import Batch

SOURCE = RandomCodes(sizes=(3, 4, 2))


def enumerated(task: FactorTask, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of labels (B, K, C) and of factors (B, K, V): every (factor, mapping) is a hypothesis with its prior.

    Those count that agree so far.
    """
    shape = task.shape
    hypotheses = []
    for slot, factor in enumerate(shape.asked):
        size = shape.factor_sizes[factor]
        mappings = list(permutations(range(size))) if task.n_mappings is None else task._mapping_tables()[slot].tolist()
        hypotheses += [(slot, factor, mapping, 1 / len(mappings)) for mapping in mappings]
    predictions = torch.zeros(*batch.targets.shape, shape.n_labels, dtype=torch.float64)
    chances = torch.zeros(*batch.targets.shape, len(shape.asked), dtype=torch.float64)
    for row in range(len(batch)):
        alive = hypotheses
        for k, label in enumerate(batch.targets[row].tolist()):
            values = batch.factors[row, k].tolist()
            for slot, factor, mapping, prior in alive:
                predictions[row, k, mapping[values[factor]]] += prior
                chances[row, k, slot] += prior
            alive = [one for one in alive if one[2][values[one[1]]] == label]
    return predictions / predictions.sum(2, keepdim=True), chances / chances.sum(2, keepdim=True)


@pytest.mark.parametrize("n_mappings", [None, 1, 2, 7])
def test_predictions_equal_enumeration(n_mappings: int | None) -> None:
    task = FactorTask(source=SOURCE, n_mappings=n_mappings, n_pairs=9)
    batch = task.sample(0, batch_size=40)
    labels, factors = enumerated(task, batch)
    torch.testing.assert_close(task.bayes_predictions(batch), labels)
    torch.testing.assert_close(task.choice_chances(batch), factors)


def test_labels_that_no_hypothesis_allows_get_no_prediction() -> None:
    task = FactorTask(source=SOURCE, n_pairs=6, hidden=("a",))
    batch = task.sample(0, batch_size=4)
    impossible = Batch(
        batch.inputs, torch.full_like(batch.targets, 2), batch.factors, batch.hidden_factor, batch.item_index
    )
    predictions = task.bayes_predictions(impossible)
    assert predictions.isfinite().all()
    assert (predictions.sum(2).sub(1).abs() < 1e-9).logical_or(predictions.sum(2) == 0).all()
