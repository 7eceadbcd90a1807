"""Curricula over datasets: shares, purity, epochs, workers."""

import random
from collections import Counter
from itertools import chain, islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.integrations.datasets import CurriculumDataset
from unplateau.strategies.base import Curriculum, Mix, V
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss
from unplateau.strategies.strategy import Strategy

TARGET, FIXED = list(range(30)), list(range(100, 120))


def stream(strategy: Strategy, **settings: Any) -> CurriculumDataset:
    return CurriculumDataset(strategy, TARGET, FIXED, **{"batch_size": 8, **settings})


def test_warm_up_takes_the_fixed_dataset_first_and_then_never_again() -> None:
    dataset = stream(Strategy(WarmUp(steps=3)))
    assert [dataset.shares_at(step)["fixed"] for step in range(5)] == [8, 8, 8, 0, 0]
    rows = list(islice(dataset, 40))
    assert all(row >= 100 for row in rows[:24])
    assert all(row < 30 for row in rows[24:])


@pytest.mark.parametrize("fraction", [0.5, 0.3, 0.05])
def test_mixed_keeps_its_share_exactly_in_the_long_run(fraction: float) -> None:
    dataset = stream(Strategy(Mixed(fraction=fraction)))
    shares = [dataset.shares_at(step) for step in range(200)]
    assert all(sum(share.values()) == 8 for share in shares)
    assert abs(sum(share["fixed"] for share in shares) - 1600 * fraction) < 1


@pytest.mark.parametrize(
    "strategy",
    [Strategy(), Strategy(WarmUp(steps=4)), Strategy(Mixed(fraction=0.3)), Strategy(WarmUp(steps=4), Mixed())],
)
def test_a_step_is_the_same_whether_asked_for_alone_or_in_turn(strategy: Strategy) -> None:
    in_turn = stream(strategy)
    rows = [in_turn.rows_at(step) for step in range(12)]
    assert stream(strategy).rows_at(11) == rows[11]
    assert in_turn.rows_at(2) == rows[2]
    resumed = list(islice(stream(strategy, start=5), 16))
    assert resumed == list(islice(in_turn, 56))[40:]
    assert stream(strategy, seed=1).rows_at(0) != rows[0]


def test_each_row_comes_once_in_every_epoch_of_its_dataset() -> None:
    dataset = stream(Strategy(Mixed(fraction=0.25)))
    drawn = [row for step in range(60) for row in dataset.rows_at(step)]
    for source, size in (("target", 30), ("fixed", 20)):
        rows = [row.index for row in drawn if row.source == source]
        assert len(rows) >= 3 * size
        # the order inside a step is shuffled, so an epoch may hand a row of its last step to the next one
        counts = [Counter(rows[: epoch * size]) for epoch in (1, 2, 3)]
        assert all(sum(abs(counts[i][row] - i - 1) for row in range(size)) <= 8 for i in range(3))
    exact = [dataset._row("target", number) for number in range(90)]
    assert all(sorted(exact[start : start + 30]) == TARGET for start in (0, 30, 60))
    assert exact[:30] != exact[30:60]


def test_global_random_numbers_do_not_matter() -> None:
    torch.manual_seed(1), random.seed(1)
    first = list(islice(stream(Strategy(Mixed())), 40))
    torch.manual_seed(2), random.seed(2)
    state = torch.get_rng_state()
    assert list(islice(stream(Strategy(Mixed())), 40)) == first
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("at_once", [8, 4])
def test_workers_deliver_the_same_stream(at_once: int) -> None:
    dataset = stream(Strategy(WarmUp(steps=2), Mixed()), rows_at_once=at_once)
    batches = [
        [batch.tolist() for batch in islice(DataLoader(dataset, at_once, num_workers=workers), 6)] for workers in (0, 2)
    ]
    assert batches[0] == batches[1]
    assert [*chain.from_iterable(batches[0])] == list(islice(dataset, 6 * at_once))


def test_a_curriculum_of_ones_own_may_read_the_history() -> None:
    class UntilLossFalls(Curriculum):
        def mix(self, step: int, target: V, history: History) -> Mix[V]:
            return [(1.0, target)] if history.last("loss", 9.0) < 1 else [(0.75, target.fixed()), (0.25, target)]

    losses: list[dict[str, float]] = []
    dataset = stream(Strategy(UntilLossFalls()), history=lambda: History(losses))
    assert dataset.shares_at(0)["fixed"] == 6
    losses.extend([{"step": 1, "loss": 2.0}, {"step": 3, "loss": 0.5}])
    assert [dataset.shares_at(step)["fixed"] for step in range(5)] == [6, 6, 6, 0, 0]
    again = stream(Strategy(UntilLossFalls()), history=lambda: History(losses))  # as when resumed with the whole log
    assert [again.rows_at(step) for step in range(5)] == [dataset.rows_at(step) for step in range(5)]
    with pytest.raises(SpecError, match="num_workers=0"):
        next(iter(DataLoader(dataset, 8, num_workers=1)))


def test_what_cannot_work_is_refused_at_once_and_by_name() -> None:
    for curriculum in (Mixed(), WarmUp()):
        with pytest.raises(SpecError, match=f"{type(curriculum).__name__}: needs a dataset with the fixed mapping"):
            CurriculumDataset(Strategy(ComponentLoss(), curriculum), TARGET, batch_size=8)
    with pytest.raises(SpecError, match="fixed: 20 rows are fewer than a batch of 25"):
        stream(Strategy(Mixed()), batch_size=25)
    with pytest.raises(SpecError, match="mapping 'changing'"):
        stream(Strategy(WarmUp(mapping="changing")))
    with pytest.raises(SpecError, match="mapping 'shuffled'"):
        stream(Strategy(WarmUp(mapping="shuffled")))
    with pytest.raises(SpecError, match="step: must be at least 0"):
        stream(Strategy()).rows_at(-1)
    with pytest.raises(SpecError, match="batch_size"):
        stream(Strategy(), batch_size=0)
