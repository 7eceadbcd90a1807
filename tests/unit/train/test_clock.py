"""What is booked is what has passed, on one account or the other."""

from pathlib import Path

import torch

from small_runs import trained
from unplateau import store
from unplateau.files import read_rows
from unplateau.train.clock import CostClock, Spent, Stopwatch

CPU = torch.device("cpu")


def test_what_is_spent_adds_up() -> None:
    assert Spent(1, 2) + Spent(3, 4) * 2 == Spent(7, 10)
    assert Spent(1, None) + Spent(3, 4) == Spent(4, None)
    assert Spent(1, None) * 3 == Spent(3, None)


def test_no_more_is_booked_than_passes() -> None:
    watch = Stopwatch(CPU)
    clock = CostClock(CPU)
    clock.lap("training")
    clock.lap("observers")
    told, whole = clock.read(), watch.lap()
    assert 0 < told["seconds"] + told["observer_seconds"] < whole.seconds
    assert watch.method == told["energy_method"]


def test_time_that_others_took_is_not_booked() -> None:
    clock = CostClock(CPU)
    clock.others(3600.0)
    clock.lap("training")
    told = clock.read()
    assert told["seconds"] == 0
    assert told["joules"] in (0, None)
    clock.lap("training")
    assert clock.read()["seconds"] > 0


def test_costs_go_on_where_an_earlier_process_left_off() -> None:
    clock = CostClock(CPU)
    clock.add({"seconds": 5.0, "observer_seconds": 2.0, "joules": None, "observer_joules": 1.0})
    clock.lap("training")
    told = clock.read()
    assert told["seconds"] > 5.0
    assert (told["observer_seconds"], told["joules"]) == (2.0, None)


def test_the_last_look_is_among_the_costs(tmp_path: Path) -> None:
    run = trained(tmp_path)
    last = read_rows(run.path / store.COSTS)[-1]
    assert run.done is not None
    assert run.done["observer_seconds"] > last["observer_seconds"]
    assert run.done["seconds"] > last["seconds"]  # by the checkpoint
