"""The factor task: sampling, sizes, bad input."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.config import parse
from unplateau.errors import SpecError
from unplateau.items.base import all_inputs
from unplateau.items.codes import RandomCodes
from unplateau.layout import Split
from unplateau.rng import fold
from unplateau.tasks.base import Task
from unplateau.tasks.factors import FactorTask, distinct
from unplateau.tensors import Batch

CPU = torch.device("cpu")
SOURCE = RandomCodes(sizes=(3, 4, 2))


@settings(max_examples=50, derandomize=True, deadline=None)
@given(n_rows=st.integers(1, 20), n_draws=st.integers(1, 12), spare=st.integers(0, 30), seed=st.integers(0, 1000))
def test_draws_are_distinct_and_in_range(n_rows: int, n_draws: int, spare: int, seed: int) -> None:
    drawn = distinct(n_rows, n_draws, n_draws + spare, fold(seed, "test"))
    assert drawn.shape == (n_rows, n_draws)
    assert (drawn.sort(1).values.diff(dim=1) > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < n_draws + spare


def test_more_draws_than_items_are_refused_in_one_line() -> None:
    """Also of a task that nobody has checked before it is sampled."""
    task = FactorTask(source=RandomCodes(sizes=(4, 4), copies=1), n_pairs=12)
    with pytest.raises(SpecError, match="takes 12 different items, and there are 3: lower its number of pairs"):
        task.sample(0, batch_size=2, split="test")


def test_draws_are_uniform_at_every_place() -> None:
    drawn = distinct(20_000, 4, 6, fold(0, "test"))
    for place in range(4):
        frequency = torch.bincount(drawn[:, place], minlength=6) / len(drawn)
        assert (frequency - 1 / 6).abs().max() < 0.012  # 4.5 standard errors


@pytest.mark.parametrize("n_mappings", [None, 1, 5])
def test_labels_are_a_permutation_of_the_hidden_factor(n_mappings: int | None) -> None:
    batch = FactorTask(source=SOURCE, n_mappings=n_mappings, n_pairs=12).sample(0, batch_size=64)
    for row in range(64):
        values = batch.factors[row, :, batch.hidden_factor[row]].tolist()
        pairs = set(zip(values, batch.targets[row].tolist(), strict=True))
        assert len(pairs) == len({value for value, _ in pairs}) == len({label for _, label in pairs})
        assert max(label for _, label in pairs) < SOURCE.factor_sizes[batch.hidden_factor[row]]


def test_the_number_of_mappings_is_the_knob() -> None:
    def distinct_mappings(n_mappings: int | None) -> int:
        task = FactorTask(source=SOURCE, hidden=("b",), n_mappings=n_mappings, n_pairs=16)
        batch = task.sample(0, batch_size=400)
        values = batch.factors[..., 1]
        rows = [
            tuple(dict(sorted(zip(v, y, strict=True))).items())
            for v, y in zip(values.tolist(), batch.targets.tolist(), strict=True)
        ]
        return len({row for row in rows if len(row) == 4})

    assert distinct_mappings(1) == 1
    assert 1 < distinct_mappings(5) <= 5
    assert distinct_mappings(None) == 24


def test_every_hidden_factor_is_as_likely() -> None:
    hidden = FactorTask(source=SOURCE, n_pairs=2).sample(0, batch_size=9000).hidden_factor
    assert (torch.bincount(hidden, minlength=3) / 9000 - 1 / 3).abs().max() < 0.025


def test_variants_of_the_fixed_task_differ() -> None:
    task = FactorTask(source=SOURCE)
    labels = [task.fixed(variant).sample(0, batch_size=32).targets for variant in range(4)]
    assert not all(torch.equal(labels[0], other) for other in labels[1:])


def test_shuffled_factors_keep_counts_and_lose_the_items() -> None:
    task = FactorTask(source=SOURCE)
    true, moved = task._label_factors(), task.shuffled()._label_factors()
    assert torch.equal(true.sort(0).values, moved.sort(0).values)
    assert (true == moved).double().mean() < 0.6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"hidden": ["hue"]}, "unknown factor 'hue'; known: a, b, c"),
        ({"hidden": []}, "at least one factor"),
        ({"hidden": ["a", "a"]}, "none twice"),
        ({"n_mappings": 0}, "greater than or equal to 1"),
        ({"n_pair": 3}, "did you mean 'n_pairs'?"),
    ],
)
def test_bad_input_is_one_clear_line(data: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(Task, {"kind": "FactorTask", "source": SOURCE.model_dump(), **data})  # type: ignore[type-abstract]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_pairs_than_items_are_refused_when_the_items_are_read() -> None:
    task = FactorTask(source=SOURCE, n_pairs=10**6)
    with pytest.raises(ValueError, match="n_pairs 1000000 is more than the"):
        task.check()


class Reversed(FactorTask):
    """A task of one's own, whose prompts are those of another, read backwards."""

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        return super().sample(step, batch_size=batch_size, split=split, seed=seed).map(lambda rows: rows.flip(0))


@pytest.mark.parametrize("kind", [FactorTask, Reversed])
def test_where_a_batch_is_made_does_not_change_it(kind: type[FactorTask]) -> None:
    task = kind(source=RandomCodes(sizes=(3, 3), width=8), n_pairs=4)
    here, there = (sample(5, batch_size=6, seed=2) for sample in (task.sample, partial(task.sample_on, CPU)))
    assert all(map(torch.equal, here.tensors(), there.tensors()))
    assert torch.equal(all_inputs(task.source, CPU)[here.item_index], task.source.inputs(here.item_index))
