"""Noisy clusters: items lie near the means of their classes; the exact predictors are those of enumeration."""

import itertools
from math import perm

import pytest
import torch

from unplateau.tasks.clusters import Clusters, _means
from unplateau.tensors import Prompts

SMALL = Clusters(n_classes=20, classes_per_prompt=2, n_pairs=4, width=3)


def test_items_are_noisy_means_of_their_classes() -> None:
    task = Clusters(noise=0.2)
    batch = task.sample(0, batch_size=400)
    assert isinstance(batch.inputs, Prompts)
    noise = batch.inputs.items - _means(256, 32, 0)[batch.item_index]
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.003)
    alone = task.sample_items(0, n_items=500)
    distance = torch.cdist(alone.inputs, _means(256, 32, 0))
    assert torch.equal(distance.argmin(1), alone.factors[:, 0])


def test_held_out_classes_never_occur_in_training() -> None:
    train, test = (SMALL.sample(0, batch_size=400, split=split).item_index.unique() for split in ("train", "test"))
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(20))
    assert len(test) == 4


@pytest.mark.parametrize("burstiness", [0.0, 0.3, 1.0])
def test_burstiness_is_the_share_of_prompts_whose_classes_recur(burstiness: float) -> None:
    task = Clusters(burstiness=burstiness)
    batch = task.sample(0, batch_size=2000)
    n_classes = torch.tensor([len(set(prompt)) for prompt in batch.item_index.tolist()])
    assert set(n_classes.tolist()) <= {1, 2, 3, 4, 12}
    assert (n_classes <= 4).double().mean().item() == pytest.approx(burstiness, abs=0.04)
    few = [row for row in range(len(batch)) if n_classes[row] <= 4]
    for row in few:  # labels are a permutation
        pairs = set(zip(batch.item_index[row].tolist(), batch.targets[row].tolist(), strict=True))
        assert len(pairs) == len({label for _, label in pairs}) == n_classes[row]


@pytest.mark.parametrize("n_mappings", [None, 1, 3])
@pytest.mark.parametrize("burstiness", [0.0, 0.4, 1.0])
def test_the_bayes_predictor_equals_enumeration(n_mappings: int | None, burstiness: float) -> None:
    """Over kinds of prompt, sequences of classes and labels, each with the probability that it is drawn with."""
    task = SMALL.model_copy(update={"n_mappings": n_mappings, "burstiness": burstiness})
    batch = task.sample(0, batch_size=24)
    found, table = task.bayes_predictions(batch), task._table()
    mappings = [None] if table is None else table.tolist()

    def probability(classes: list[int], labels: list[int], mapping: list[int] | None) -> float:
        """Of these first classes and labels, from the 16 train classes."""
        distinct = list(dict.fromkeys(classes))
        label_of = dict(zip(classes, labels, strict=True))
        if any(label_of[one] != label for one, label in zip(classes, labels, strict=True)):
            return 0.0
        pairs_of_classes = list(itertools.combinations(range(16), 2))
        containing = 15 if len(distinct) == 1 else 1 if len(distinct) == 2 else 0
        bursty = burstiness * containing / len(pairs_of_classes) * 0.5 ** len(classes)
        different = (1 - burstiness) / perm(16, len(classes)) if len(distinct) == len(classes) else 0.0
        if mapping is not None:
            return (bursty + different) * all(mapping[one] == label_of[one] for one in distinct)
        permutations = [
            one for one in itertools.permutations(range(2)) if list(label_of.values()) == [*one][: len(distinct)]
        ]
        return bursty * len(permutations) / 2 + different * 0.5 ** len(classes)

    for row, (classes, labels) in enumerate(zip(batch.item_index.tolist(), batch.targets.tolist(), strict=True)):
        for k in range(4):
            seen = [
                sum(probability(classes[: k + 1], [*labels[:k], label], mapping) for mapping in mappings)
                for label in range(2)
            ]
            assert found[row, k].tolist() == pytest.approx([one / sum(seen) for one in seen])


def test_the_control_gives_items_the_labels_of_others() -> None:
    batch = Clusters(shuffle_factors=True).sample(0, batch_size=200)
    same = (batch.factors[..., 0] == batch.item_index).double().mean().item()
    assert same == pytest.approx(0.25 + 0.75 / 12, abs=0.03)
    assert torch.equal(batch.factors[..., 0].sort(1).values, batch.item_index.sort(1).values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"classes_per_prompt": 52}, "classes_per_prompt 52 is more than the 51 classes of the smaller half"),
        ({"n_pairs": 60, "burstiness": 0.5}, "n_pairs .of different classes.* 60 is more than the 51"),
        ({"noise": -0.1}, "noise"),
        ({"burstiness": 1.5}, "burstiness"),
    ],
)
def test_what_cannot_work_is_refused(data: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clusters.model_validate(data)
    Clusters(n_pairs=60)  # classes may recur
