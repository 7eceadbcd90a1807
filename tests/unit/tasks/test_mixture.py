"""A mixture of tasks is a task."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unplateau.errors import SpecError
from unplateau.items.codes import RandomCodes
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.mixture import Mixture, rows_of

TASK = FactorTask(source=RandomCodes(), n_pairs=8)


@pytest.mark.parametrize("share", [0.5, 0.3, 0.01])
def test_shares_are_exact_in_the_long_run_and_rows_constant(share: float) -> None:
    mixture = Mixture(tasks=(TASK.fixed(), TASK), shares=(share, 1 - share))
    rows = [rows_of(mixture.shares, step, 7) for step in range(1000)]
    assert all(sum(row) == 7 for row in rows)
    assert abs(sum(row[0] for row in rows) - share * 7000) <= 1


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=5).filter(lambda parts: sum(parts) > 0.01),
    st.integers(1, 70),
    st.integers(0, 10**6),
)
def test_no_task_ever_gets_fewer_than_no_rows(parts: list[float], batch_size: int, step: int) -> None:
    shares = tuple(part / sum(parts) for part in parts)
    rows = rows_of(shares, step, batch_size)
    assert sum(rows) == batch_size
    assert min(rows) >= 0


def test_rows_of_different_tasks_share_no_random_numbers() -> None:
    batch = Mixture(tasks=(TASK, TASK), shares=(0.5, 0.5)).sample(0, batch_size=8)
    assert not torch.equal(batch.item_index[:4], batch.item_index[4:])


def test_predictor_finds_out_which_task_a_prompt_comes_from() -> None:
    mixture = Mixture(tasks=(TASK.fixed(), TASK), shares=(0.5, 0.5))
    batch = TASK.fixed().sample(0, batch_size=200)
    gap = (mixture.bayes_predictions(batch) - TASK.fixed().bayes_predictions(batch)).abs().amax(2).mean(0)
    assert gap[-1] < gap[1] / 3


@pytest.mark.parametrize(
    ("shares", "message"),
    [((0.5,), "need as many shares"), ((0.5, 0.6), "sum to 1"), ((-0.5, 1.5), "at least 0")],
)
def test_bad_shares_are_refused(shares: tuple[float, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Mixture(tasks=(TASK, TASK.fixed()), shares=shares)


def test_tasks_of_different_shapes_are_refused() -> None:
    mixture = Mixture(tasks=(TASK, TASK.model_copy(update={"n_pairs": 4})), shares=(0.5, 0.5))
    with pytest.raises(ValueError, match="same shape"):
        mixture.check()
