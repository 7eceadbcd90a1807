"""``unplateau plateaus`` on logs of other programs, clean and dirty."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest


def curve(step: float) -> float:
    """Flat at ln 4 until step 600, then down within 200 steps; a little noise that is the same each time."""
    return math.log(4) - 1.2 * min(1, max(0, (step - 600) / 200)) + 0.02 * math.sin(12.9898 * step)


def write_csv(path: Path, rows: list[tuple[Any, Any]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("step", "loss"), *rows])
    return str(path)


@pytest.fixture
def rows() -> list[tuple[Any, Any]]:
    return [(step, curve(step)) for step in range(0, 1500, 10)]


def test_json_is_exactly_this(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"iteration": step, "eval/loss": loss}) + "\n" for step, loss in rows))
    options = ("--step", "iteration", "--value", "eval/loss", "--floor", str(math.log(4)), "--ceiling", "0.18")
    (plateau,) = json.loads(cli("plateaus", str(log), *options, "--json").stdout)
    assert list(plateau) == ["start", "end", "level", "ended", "interval", "kind"]
    assert plateau["ended"] is True
    assert abs(plateau["end"] - 600) <= 20
    assert abs(plateau["level"] - math.log(4)) < 0.02


def test_words(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    said = cli("plateaus", write_csv(tmp_path / "log.csv", rows), "--value", "loss", "--ceiling", "0.18").stdout
    assert said.startswith("plateau from 0 to ")
    assert said.count("\n") == 1


def test_a_smoothed_log_says_what_it_would_without(cli: Any, tmp_path: Path) -> None:
    noise = random.Random(0)
    smoothed, rows = math.log(4), []
    for step in range(0, 6000, 10):
        smoothed = 0.9 * smoothed + 0.1 * (curve(step / 4) + noise.gauss(0, 0.1))
        rows.append((step, smoothed))
    log, options = write_csv(tmp_path / "log.csv", rows), ("--value", "loss", "--ceiling", "0.18")
    (plateau,) = json.loads(cli("plateaus", log, *options, "--json").stdout)
    assert list(plateau) == ["start", "end", "level", "ended", "interval", "kind", "if_smoothed"]
    raw = plateau["if_smoothed"]
    assert list(raw) == ["weight", "end", "interval"]
    assert abs(raw["weight"] - 0.9) < 0.05
    assert raw["interval"][0] <= 2400 <= raw["interval"][1]
    assert raw["end"] < plateau["end"]
    assert (
        f"; if this log was smoothed (by {raw['weight']:.2f}), to {raw['end']:g} ("
        in cli("plateaus", log, *options).stdout
    )


def test_no_plateau_is_no_error(cli: Any, tmp_path: Path) -> None:
    falling = write_csv(tmp_path / "log.csv", [(step, 3 - step / 1000) for step in range(0, 1500, 10)])
    assert cli("plateaus", falling, "--value", "loss").stdout == "no plateau found\n"
    assert cli("plateaus", falling, "--value", "loss", "--json").stdout == "[]\n"


def test_dirty_logs_are_read_and_said_to_be(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    """Empty cells and NaNs are what trainers write between two evaluations, unsorted steps what a resume leaves."""
    gaps = {index: ("", "nan")[index % 2] for index in range(len(rows)) if index % 7 < 3}
    gappy = [(step, gaps.get(index, loss)) for index, (step, loss) in enumerate(rows)]
    log = write_csv(tmp_path / "gaps.csv", gappy[70:] + gappy[:70])
    done = cli("plateaus", log, "--value", "loss", "--ceiling", "0.18", "--json")
    (plateau,) = json.loads(done.stdout)
    assert abs(plateau["end"] - 600) <= 30
    assert [line.removeprefix(f"unplateau: {log}: ") for line in done.stderr.splitlines()] == [
        f"{len(gaps)} rows without a value left out",
        "steps were not sorted",
    ]


@pytest.mark.parametrize(
    ("spoil", "options", "parts"),
    [
        (lambda rows: [*rows[:50], (500, "oops"), *rows[50:]], ("--value", "loss"), ("log.csv", "oops")),
        (lambda rows: rows, ("--value", "los"), ("log.csv", "'los'", "loss")),
        (lambda rows: rows, ("--value", "loss", "--step", "stp"), ("log.csv", "'stp'", "step")),
        (lambda rows: rows, (), ("--value", "missing")),
        (lambda rows: rows, ("--value", "loss", "--direction", "up"), ("--direction", "'up'")),
    ],
)
def test_what_cannot_be_read_is_named(
    cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]], spoil: Any, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    message = cli.refused("plateaus", write_csv(tmp_path / "log.csv", spoil(rows)), *options)
    assert all(part in message for part in parts), message


def test_a_missing_file(cli: Any) -> None:
    assert "nowhere.csv" in cli.refused("plateaus", "nowhere.csv", "--value", "loss")
