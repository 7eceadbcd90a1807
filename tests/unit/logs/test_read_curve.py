"""A curve of a log, or one line that says where and why there is none."""

import json
import math
from pathlib import Path

import pytest

from unplateau.errors import DataError, SpecError
from unplateau.logs import read_curve

ROWS = [(10 * k, 2.5 - 0.1 * k) for k in range(12)]


def written(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def csv_text(delimiter: str = ",", rows: list[tuple[object, object]] | None = None) -> str:
    lines = [f"step{delimiter}loss{delimiter}note"]
    lines += [f"{step}{delimiter}{loss}{delimiter}x" for step, loss in rows or ROWS]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_delimiters_and_byte_order_marks(tmp_path: Path, delimiter: str, prefix: str) -> None:
    curve = read_curve(written(tmp_path, prefix + csv_text(delimiter)), step="step", value="loss")
    assert curve.steps == [step for step, _ in ROWS]
    assert curve.values == pytest.approx([loss for _, loss in ROWS])
    assert curve.notes == ()


def test_quoted_cells(tmp_path: Path) -> None:
    text = '"step","val loss"\n' + "".join(f'"{step}","{loss}"\n' for step, loss in ROWS)
    assert len(read_curve(written(tmp_path, text), step="step", value="val loss").steps) == 12


def test_a_delimiter_inside_a_quoted_name_is_part_of_the_name(tmp_path: Path) -> None:
    text = '"loss, a, b";step\n' + "".join(f"{loss};{step}\n" for step, loss in ROWS)
    assert len(read_curve(written(tmp_path, text), step="step", value="loss, a, b").steps) == 12


def test_json_lines_with_nested_keys_and_rows_of_other_kinds(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "eval": {"loss": loss}}) for step, loss in ROWS]
    lines.insert(3, json.dumps({"step": 25, "lr": 0.1}))
    lines.append('{"step": 999, "eval": {"lo')  # still being written
    curve = read_curve(written(tmp_path, "\n".join(lines), "log.jsonl"), step="step", value="eval.loss")
    assert len(curve.steps) == 12
    assert curve.notes == ("the last line is cut off: left out", "1 rows without a value left out")


def test_gaps_disorder_and_repeats_are_mended_and_noted(tmp_path: Path) -> None:
    rows: list[tuple[object, object]] = [*ROWS, (20, "nan"), (500, ""), (115, 0.7), (115, 0.8), (5, "null"), ("", 1.0)]
    rows += [(120, math.inf), (113, 1.0), (113, 1.0)]
    curve = read_curve(written(tmp_path, csv_text(rows=rows)), step="step", value="loss")
    assert curve.steps == [*(step for step, _ in ROWS), 113, 115]
    assert curve.values[-1] == 0.8
    assert curve.notes == (
        "4 rows without a value left out",
        "1 rows with an infinite value left out",
        "steps were not sorted",
        "1 rows that repeat another left out",
        "1 repeated steps: the last value counts",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("step,loss\n1,2\n", "1 points with both"),
        ("step,los\n1,2\n", "has no column 'loss'; did you mean 'los'?"),
        ("step,loss\n1,2\n2,high\n", "line 3, column 'loss': 'high' is not a number"),
        ('{"step": 1, "loss": 2}\n{"step": \n{"step": 2}\n', "line 2 is not JSON"),
        ('{"step": 1, "loss": true}\n', "'True' is not a number"),
        ('{"step": 1, "loss": 1' + "0" * 400 + "}\n", "line 1, column 'loss'"),
        ("step,loss\n1," + "9" * 200_000 + "\n", "0 points with both 'loss' and 'step'"),
        ("step,loss\n", "a table without rows; its columns are step, loss"),
        ("step,loss\n1,2,3\n2,3,4\n", "line 2 has 3 cells, and there are 2 columns; are commas decimal points"),
        ("name,city\nann,rome\nbob,paris\n", "looks like a table of words"),
        ("Dear diary,\nit went well.\n", "looks like a text log; no name/value pairs"),
        ("Dear diary,\nit took 5 hours.\nall in all\n", "looks like a text log; no name/value pairs"),
        ("<!DOCTYPE html>\n<p>loss: 2.3</p>\n", "looks like a page of HTML"),
        ('{"a": {"b": "c"}}', "looks like JSON; neither rows nor columns of numbers"),
        ('[{"step": 1, "loss": 2},\n{"step": 2,', "looks like JSON and cannot be read as such"),
        ('{"loss": 1, "loss": 2}\n{"loss": 1}\n', "two members called 'loss'"),
        ("step,loss,loss\n" + "1,2,3\n" * 9, "columns 2 and 3 are all called 'loss'"),
        ("step,loss\n1,2ms\n2,3s\n", "line 3, column 'loss': units change between 'ms' and 's'"),
        ("step,loss\n1,\0\n", "is not a text file"),
    ],
)
def test_what_is_no_log_is_refused_with_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_curve(written(tmp_path, text), step="step", value="loss")
    assert message in str(caught.value)
    assert "log.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_curve(tmp_path / "none.csv", step="step", value="loss")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe" * 9)
    with pytest.raises(DataError, match="looks like a PNG image"):
        read_curve(tmp_path / "image.csv", step="step", value="loss")


def test_columns_of_one_name_that_nobody_wants_are_noted(tmp_path: Path) -> None:
    text = "step,loss,time,time\n" + "".join(f"{step},{loss},1,2\n" for step, loss in ROWS)
    curve = read_curve(written(tmp_path, text))
    assert curve.value == "loss"
    assert curve.notes == ("columns 3 and 4 are all called 'time': not used",)


def test_a_guess_that_cannot_be_read_costs_nothing(tmp_path: Path) -> None:
    rows = [f"{step},{loss},{step // 40}" for step, loss in ROWS]
    text = "\n".join(["step,loss,epoch", *rows, "120,1.1,last"])
    assert len(read_curve(written(tmp_path, text)).steps) == 13


def test_one_of_several_runs(tmp_path: Path) -> None:
    text = "seed,step,loss\n" + "".join(f"{seed},{step},{loss + seed}\n" for seed in (0, 1) for step, loss in ROWS)
    path = written(tmp_path, text)
    assert read_curve(path, by="seed=1").values == read_curve(path, segment=2).values == [loss + 1 for _, loss in ROWS]
    with pytest.raises(SpecError, match="several runs are chosen; one of: seed 0, seed 1"):
        read_curve(path, by="seed")
