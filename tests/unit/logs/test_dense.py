"""Large tables of numbers: read into an array, and with the same answers as row by row."""

import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.errors import DataError
from unplateau.logs import Wanted, dense, read_curves, read_log
from unplateau.logs.dense import DenseLog, any_numbers, json_numbers
from unplateau.plateau.curve import MOST_ROWS, gathered
from unplateau.plateau.detect import find_plateaus


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "LARGE", 0)
    monkeypatch.setattr(dense, "PART", 100)


def written(path: Path, *, header: str = "step,loss,epoch,lr", between: str = ",", n: int = 60, **cells: str) -> Path:
    """A table in which single cells (``row_column``) are replaced."""
    draw = random.Random(0)
    rows = [[str(10 * at), f"{2 - at / 40 + draw.random():.4f}", f"{at / 20:.3f}", "0.1"] for at in range(n)]
    for place, cell in cells.items():
        row, column = map(int, place.removeprefix("at_").split("_"))
        rows[row][column] = cell
    lines = [header.replace(",", between), *map(between.join, rows)]
    path.write_text("".join(f"{line}\n" for line in lines if line))
    return path


def same(path: Path, wanted: Wanted) -> None:
    """The same curves, or the same refusal, as of the rows one by one."""
    log = read_log(path)
    try:
        slow = read_curves(log.in_full() if isinstance(log, DenseLog) else log, wanted)
    except DataError as error:
        refusal = re.escape(str(error))
    else:
        refusal = ""
    if refusal:
        with pytest.raises(DataError, match=f"^{refusal}$"):
            read_curves(log, wanted)
        return
    for fast, one in zip(read_curves(log, wanted), slow, strict=True):
        assert list(fast.steps) == one.steps
        assert list(fast.values) == one.values
        names = ("notes", "source", "form", "value", "step", "direction", "guessed", "part", "events")
        assert [getattr(fast, name) for name in names] == [getattr(one, name) for name in names]


@pytest.mark.parametrize(
    "wanted", [Wanted(), Wanted(("loss",), "step"), Wanted(("loss", "lr"), "row"), Wanted(step="epoch")]
)
@pytest.mark.parametrize("between", [",", "\t"])
def test_is_read_as_row_by_row(tmp_path: Path, between: str, wanted: Wanted) -> None:
    path = written(tmp_path / "log.csv", between=between)
    assert isinstance(read_log(path), DenseLog)
    same(path, wanted)


def test_without_a_header(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", header="")
    assert isinstance(read_log(path), DenseLog)
    same(path, Wanted(("column 2",), "column 1"))


ODD = ["nan", "inf", "-inf", "", "0", "1e3", "1_000", " 7 ", "loss", "0x10", "3k", "1;2", '"5"', "None", "true", "[1]"]
EDGES = ["-0", "-0.0", "+5", "007", "1.", ".5", "1E+5", "1e400", "-1e400", "1e-400", "9" * 400, "18446744073709551617"]
CELLS = st.sampled_from(ODD + EDGES)
WRITTEN = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds("{:.{}{}}".format, st.floats(-1e6, 1e6), st.integers(0, 25), st.sampled_from("feg")),
    st.integers(-(2**70), 2**70).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
)
"""Numbers as programs write them, and any that JSON knows."""


@given(row=st.integers(0, 59), column=st.integers(0, 3), cell=CELLS)
def test_any_cell_is_understood_as_elsewhere(tmp_path_factory: pytest.TempPathFactory, row, column, cell) -> None:
    path = written(tmp_path_factory.mktemp("log") / "log.csv", **{f"at_{row}_{column}": cell})
    same(path, Wanted(("loss",), "step"))


TABLES = st.one_of(*(st.lists(cell, min_size=12, max_size=12) for cell in (WRITTEN, st.one_of(WRITTEN, CELLS))))


@given(TABLES, st.sampled_from("\t,"), st.sampled_from(["", "\n"]))
def test_numbers_have_the_bits_that_python_gives_them(tmp_path_factory, cells, between, end) -> None:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(between.join(cells[at : at + 3]) for at in range(0, 12, 3)) + end)
    fast, slow = json_numbers(path, between, 0, (3, 4)), any_numbers(path, between, 0)
    if fast is not None:
        assert slow is not None
        assert fast.tobytes() == slow.tobytes() == np.array([float(cell) for cell in cells]).reshape(4, 3).T.tobytes()


def test_usual_numbers_are_read_fast(tmp_path: Path) -> None:
    rows = [[at, 10 * at, -at / 7, 1e-9 * at, 0.0] for at in range(40)]
    for newline in ("\n", "\r\n"):
        path = tmp_path / "log.csv"
        path.write_text("\n".join(["a,b,c,d,e", *(",".join(map(str, row)) for row in rows)]), newline=newline)
        fast = json_numbers(path, ",", 1, (5, 99))
        assert fast is not None
        assert fast.T.tolist() == rows
        assert json_numbers(path, ",", 1, (4, 99)) is None


@pytest.mark.parametrize("end", ["600,1", "600", "600,1.0,3.0,0.1,7", "step,loss,epoch,lr\n", "# the end\n", "\n\n"])
def test_other_lines_are_understood_as_elsewhere(tmp_path: Path, end: str) -> None:
    path = written(tmp_path / "log.csv")
    path.write_text(path.read_text() + end)
    if end.count(",") > 3 and end[0].isdigit():
        with pytest.raises(DataError, match=r"log\.csv: line 62 has 5 cells, and there are 4 columns"):
            read_log(path)
    else:
        same(path, Wanted())


def test_runs_in_one_file_are_told_apart_as_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", header="step,loss,seed,lr", at_30_0="0")
    for wanted in (Wanted(("loss",)), Wanted(("loss",), segment="all"), Wanted(("loss",), by="lr")):
        same(path, wanted)


def test_a_curve_of_many_rows_has_the_same_plateau() -> None:
    n = 3 * MOST_ROWS + 7
    steps = np.arange(n, dtype=np.float64)
    values = (
        1.4 - 1.2 / (1 + np.exp(-(steps - 0.6 * n) / (0.01 * n))) + 0.05 * np.random.default_rng(1).standard_normal(n)
    )
    values[[5, 1000, n // 2, n - 3]] = 1e6  # spikes, which no mean may take in
    first = find_plateaus(steps, values)[0]
    few = find_plateaus(steps[::20], values[::20])[0]
    assert first.ended
    assert first.interval[0] <= few.interval[1]
    assert few.interval[0] <= first.interval[1]
    assert abs(first.end - few.end) < 0.02 * n
    assert first.start == 0


@given(st.integers(1, 4), st.integers(-3, 3))
def test_rows_are_gathered_evenly(times: int, more: int) -> None:
    n = times * MOST_ROWS + more
    steps, values, size = gathered(np.arange(n, dtype=np.float64), np.full(n, 2.0))
    assert size == math.ceil(n / MOST_ROWS)
    assert steps.size == math.ceil(n / size) <= MOST_ROWS
    assert (steps[0], steps[-1]) == (0, n - 1)
    assert np.all(np.diff(steps) > 0)
    assert np.all(values == 2)
