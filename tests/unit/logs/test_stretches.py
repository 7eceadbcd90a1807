"""Several runs in one file are recognised and asked about; nothing is lost without its count."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log_formats import lines
from unplateau.errors import DataError, SpecError
from unplateau.logs import Wanted, read_curves, read_log
from unplateau.logs.curves import Curve
from unplateau.logs.stretches import Point, runs_of, settled

Rows = list[dict[str, Any]]


def curves(folder: Path, rows: Rows, **wanted: Any) -> list[Curve]:
    (folder / "log").write_text(lines(*map(json.dumps, rows)))
    return read_curves(read_log(folder / "log"), Wanted(**wanted))


def run(steps: range, start: float = 5.0, **others: Any) -> Rows:
    return [{"step": step, "loss": start - step / 1000} | others for step in steps]


def seeds() -> list[Rows]:
    return [run(range(0, 1900, 10), 5 + seed, seed=seed) for seed in range(5)]


def interleaved() -> Rows:
    return [row for rows in zip(*seeds(), strict=True) for row in rows]


def test_seeds_one_after_the_other_are_asked_for_and_told_apart(tmp_path: Path) -> None:
    rows = [row for each in seeds() for row in each]
    with pytest.raises(DataError) as caught:
        curves(tmp_path, rows)
    assert "'step' starts again at line 191, 381, 571, 761: 5 runs" in str(caught.value)
    assert "--by 'seed'" in str(caught.value)
    assert "--segment N" in str(caught.value)
    for wanted in ({"by": "seed"}, {"segment": "all"}):
        found = curves(tmp_path, rows, **wanted)
        assert [curve.values for curve in found] == [[row["loss"] for row in each] for each in seeds()]
    assert [curve.part for curve in found] == [f"segment {k}" for k in range(1, 6)]
    (third,) = curves(tmp_path, rows, segment=3)
    assert third.values == curves(tmp_path, rows, by="seed=2")[0].values == found[2].values


def test_seeds_row_by_row_are_asked_for_and_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"950 rows have only 190 different values of 'step'.*--by 'seed'.*--repeats"):
        curves(tmp_path, interleaved())
    found = curves(tmp_path, interleaved(), by="seed")
    assert [curve.values for curve in found] == [[row["loss"] for row in each] for each in seeds()]
    (mean,) = curves(tmp_path, interleaved(), repeats="mean")
    assert mean.values == pytest.approx([row["loss"] + 2 for row in seeds()[0]])
    assert "760 repeated steps: the mean counts" in mean.notes
    (last,) = curves(tmp_path, interleaved(), repeats="last")
    assert last.values == [row["loss"] for row in seeds()[4]]


def test_a_counter_of_each_epoch(tmp_path: Path) -> None:
    rows = [{"epoch": e, "batch": b, "loss": 3 - e / 10 - b / 1000} for e in range(4) for b in range(30)]
    with pytest.raises(DataError, match=r"'batch' starts again at line 31, 61, 91.*--by 'epoch'.*--step row"):
        curves(tmp_path, rows)
    (curve,) = curves(tmp_path, rows, step="row")
    assert curve.values == [row["loss"] for row in rows]


def test_a_resume_keeps_the_later_rows(tmp_path: Path) -> None:
    (curve,) = curves(tmp_path, run(range(0, 900, 10)) + run(range(705, 1500, 10), 6.0))
    assert curve.steps == [*range(0, 705, 10), *range(705, 1500, 10)]
    assert curve.values[-80:] == [row["loss"] for row in run(range(705, 1500, 10), 6.0)]
    assert curve.notes[:2] == ("resumed at 'step' 705: the later rows count", "19 rows from before a resume left out")
    assert [event.what for event in curve.events] == ["resume"]


def test_two_resumes_in_the_second_of_two_runs(tmp_path: Path) -> None:
    second = run(range(0, 500, 10), 7.0) + run(range(400, 800, 10), 7.0) + run(range(700, 900, 10), 7.0)
    rows = run(range(0, 900, 10)) + second
    with pytest.raises(DataError, match="2 runs"):
        curves(tmp_path, rows)
    (curve,) = curves(tmp_path, rows, segment=2)
    assert curve.values == [row["loss"] for row in run(range(0, 900, 10), 7.0)]
    assert "20 rows from before a resume left out" in curve.notes


def test_ranks_that_log_the_same_row(tmp_path: Path) -> None:
    (curve,) = curves(tmp_path, [row for row in run(range(0, 200, 10)) for _ in range(4)])
    assert curve.steps == list(range(0, 200, 10))
    assert "60 rows that repeat another left out" in curve.notes


@pytest.mark.parametrize("order", ["reversed", "shuffled", "halves", "a little"])
def test_steps_out_of_order_are_sorted(tmp_path: Path, order: str) -> None:
    rows = run(range(0, 1000, 10))
    mixed = {
        "reversed": rows[::-1],
        "shuffled": random.Random(0).sample(rows, len(rows)),
        "halves": rows[50:] + rows[:50],
        "a little": [row for at in range(0, 100, 2) for row in (rows[at + 1], rows[at])],
    }[order]
    (curve,) = curves(tmp_path, mixed)
    assert curve.values == [row["loss"] for row in rows]
    assert curve.notes == ("steps were not sorted",)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"segment": 6}, "--segment 6.*5 runs"),
        ({"segment": 0}, "--segment 0"),
        ({"by": "seed=7"}, "no such 'seed'; there are '0', '1'"),
        ({"by": "sead"}, "no column 'sead'; did you mean 'seed'"),
    ],
)
def test_choices_that_there_are_not(tmp_path: Path, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, SpecError), match=message):
        curves(tmp_path, [row for each in seeds() for row in each], **wanted)


def test_rows_that_no_column_assigns_to_a_run(tmp_path: Path) -> None:
    rows = [row for each in seeds() for row in each]
    del rows[7]["seed"]
    with pytest.raises(DataError, match="1 rows with a value have no 'seed'"):
        curves(tmp_path, rows, by="seed")


steps = st.lists(st.integers(0, 60), min_size=1, max_size=80)


@given(steps)
def test_every_row_is_in_one_run_or_counted(found: list[int]) -> None:
    points = [Point(float(step), float(at), at, at) for at, step in enumerate(found)]
    runs = runs_of(points)
    assert sum(len(run.points) + run.n_overlapped for run in runs) == len(points)
    kept = [point.row for run in runs for point in run.points]
    assert len(kept) == len(set(kept))


@given(steps)
def test_a_settled_curve_has_each_step_once_in_order(found: list[int]) -> None:
    points = [Point(float(step), float(at), at, at) for at, step in enumerate(found)]
    assert [point.step for point in settled(points, None)] == sorted(set(map(float, found)))
