"""The log of a foreign loop: rows, resuming, plateaus."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from unplateau.integrations.watch import Watch
from unplateau.logs import read_curve


class Counting:
    """Scores that count how often they are asked for."""

    def __init__(self) -> None:
        self.looks = 0

    def measure(self) -> dict[str, Any]:
        self.looks += 1
        return {"cut": "self", "weights_score": [self.looks / 10]}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_taken_at_the_first_row_and_after_each_multiple(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "deep" / "metrics.jsonl", Counting(), every=25)
    for step in range(10, 80, 10):
        watch.record(step, loss=1 / step)
    assert [row["step"] for row in lines(watch.path) if "cut" in row] == [10, 30, 50]
    watch.record(75, look=True)
    watch.record(75, look=True, loss=0.1)  # once for each step is enough
    assert [row["step"] for row in lines(watch.path) if "cut" in row] == [10, 30, 50, 75]


def test_a_resumed_log_is_the_log_of_a_training_that_never_stopped(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"

    def run(path: Path, steps: range, begin: int | None = None) -> None:
        watch = Watch(path, Counting(), every=20)
        if begin is not None:
            watch.begin(begin)
        for step in steps:
            watch.record(step, loss=1 / step)

    run(whole, range(10, 110, 10))
    run(torn, range(10, 80, 10))
    torn.write_text(torn.read_text() + '{"step": 80, "lo')
    run(torn, range(60, 110, 10), begin=50)
    assert [row["step"] for row in lines(torn)] == [row["step"] for row in lines(whole)]
    assert [row["step"] for row in lines(torn) if "cut" in row] == [row["step"] for row in lines(whole) if "cut" in row]
    run(torn, range(10, 40, 10))
    assert [row["step"] for row in lines(torn)] == [10, 20, 30]


def test_values_that_are_no_numbers_become_gaps(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "metrics.jsonl")
    for step in range(12):
        watch.record(step, loss=float("nan") if step == 3 else 1.0)
    assert lines(watch.path)[3] == {"step": 3, "loss": None}
    assert len(read_curve(watch.path, step="step", value="loss").steps) == 11
    assert watch.plateaus() == [] or watch.plateaus()[0].ended is False


def test_plateaus_are_those_of_the_log_so_far(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "metrics.jsonl")
    noise = np.random.default_rng(0).normal(0, 0.02, 300)
    for step in range(300):
        watch.record(step, loss=1.4 - max(0, step - 180) * 0.01 + noise[step] if step < 280 else 0.4 + noise[step])
    (plateau,) = watch.plateaus(floor=1.4, ceiling=0.3)
    assert plateau.ended
    assert abs(plateau.end - 180) < 10
    assert Watch(tmp_path / "metrics.jsonl").plateaus(floor=1.4, ceiling=0.3) == [plateau]
