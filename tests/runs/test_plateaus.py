"""``unplateau plateaus`` on logs of other programs, clean and dirty."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
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
    found = json.loads(cli("plateaus", str(log), *options, "--json").stdout)
    keys = "file format value step direction part points notes plateaus drops"
    assert list(found) == keys.split()
    assert [found[key] for key in keys.split()[1:7]] == ["JSON lines", "eval/loss", "iteration", "min", None, 150]
    (plateau,) = found["plateaus"]
    assert list(plateau) == ["start", "end", "level", "ended", "interval", "kind", "coincides"]
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
    (plateau,) = json.loads(cli("plateaus", log, *options, "--json").stdout)["plateaus"]
    assert list(plateau) == ["start", "end", "level", "ended", "interval", "kind", "if_smoothed", "coincides"]
    raw = plateau["if_smoothed"]
    assert list(raw) == ["weight", "end", "interval"]
    assert abs(raw["weight"] - 0.9) < 0.05
    assert raw["interval"][0] <= 2400 <= raw["interval"][1]
    assert raw["end"] < plateau["end"]
    assert (
        f"; if this log was smoothed (by {raw['weight']:.2f}), to {raw['end']:g} ("
        in cli("plateaus", log, *options).stdout
    )
    told = cli("plateaus", log, *options, "--smoothing", "0.9", "--json")
    (plateau,) = json.loads(told.stdout)["plateaus"]
    assert "if_smoothed" not in plateau
    assert plateau["interval"][0] <= 2400 <= plateau["interval"][1]
    assert "smoothing by 0.9 undone, from row to row" in told.stderr
    assert "from 0 to less than 1, got 1" in cli.refused("plateaus", log, *options, "--smoothing", "1")


def test_no_plateau_is_no_error(cli: Any, tmp_path: Path) -> None:
    falling = write_csv(tmp_path / "log.csv", [(step, 3 - step / 1000) for step in range(0, 1500, 10)])
    assert cli("plateaus", falling, "--value", "loss").stdout == "no plateau found\n"
    assert json.loads(cli("plateaus", falling, "--value", "loss", "--json").stdout)["plateaus"] == []


def test_dirty_logs_are_read_and_said_to_be(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    """Empty cells and NaNs are what trainers write between two evaluations, unsorted steps what a resume leaves."""
    gaps = {index: ("", "nan")[index % 2] for index in range(len(rows)) if index % 7 < 3}
    gappy = [(step, gaps.get(index, loss)) for index, (step, loss) in enumerate(rows)]
    log = write_csv(tmp_path / "gaps.csv", gappy[70:] + gappy[:70])
    done = cli("plateaus", log, "--value", "loss", "--ceiling", "0.18", "--json")
    found = json.loads(done.stdout)
    assert abs(found["plateaus"][0]["end"] - 600) <= 30
    assert [line.removeprefix(f"unplateau: {log}: ") for line in done.stderr.splitlines()] == found["notes"]
    chosen, *mended = found["notes"]
    assert "value 'loss'" in chosen
    assert "direction min (by its name)" in chosen
    assert mended == [f"{len(gaps)} rows without a value left out", "steps were not sorted"]


@pytest.mark.parametrize(
    ("spoil", "options", "parts"),
    [
        (lambda rows: [*rows[:50], (500, "oops"), *rows[50:]], ("--value", "loss"), ("log.csv", "oops")),
        (lambda rows: rows, ("--value", "los"), ("log.csv", "'los'", "loss")),
        (lambda rows: rows, ("--value", "loss", "--step", "stp"), ("log.csv", "'stp'", "step")),
        (lambda rows: rows, ("--segment", "x"), ("--segment", "'x'")),
        (lambda rows: rows, ("--plot", "picture.gif"), ("picture.gif", ".png, .svg, .pdf or .html")),
        (lambda rows: rows + rows, (), ("log.csv", "starts again at line 152", "--segment N")),
        (lambda rows: rows, ("--lr", "rate"), ("log.csv", "'rate'")),
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


def test_a_log_is_all_that_is_needed(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    (tmp_path / "log.txt").write_text("".join(f"iter {step}: loss {loss:.4f}, lr 1e-3\n" for step, loss in rows))
    done = cli("plateaus", str(tmp_path / "log.txt"))
    assert done.stdout.startswith("plateau from 0 to ")
    said = "a text log: value 'loss' (0.1663 to 1.4062), step 'iter' (0 to 1490), direction min (by its name)"
    assert said in done.stderr
    assert "other columns: 'lr' (0.001 to 0.001)" in done.stderr


def test_nothing_is_said_where_all_was_given(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    options = ("--value", "loss", "--step", "step", "--direction", "min")
    assert cli("plateaus", write_csv(tmp_path / "log.csv", rows), *options).stderr == ""


def test_standard_input(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    write_csv(tmp_path / "log.csv", rows)
    with (tmp_path / "log.csv").open() as log:
        done = subprocess.run(
            [*cli.program, "plateaus", "-", "--json"], stdin=log, capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    assert found["file"] == "standard input"
    assert abs(found["plateaus"][0]["end"] - 600) <= 20


def test_a_run_of_our_own(cli: Any, whole: Path) -> None:
    found = json.loads(cli("plateaus", str(cli.run_below(whole)), "--json").stdout)
    assert found["file"].endswith("metrics.jsonl")
    assert (found["value"], found["step"]) == ("loss", "step")
    assert any("floor" in note and "those of this run" in note for note in found["notes"])
    shown = cli("show", str(cli.run_below(whole))).stdout
    for plateau in cli("plateaus", str(cli.run_below(whole))).stdout.splitlines():
        assert plateau.removeprefix("plateau ") in shown or plateau == "no plateau found"


def test_several_curves_each_with_its_name(cli: Any, tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    (tmp_path / "seeds.csv").write_text(
        "seed,step,loss\n" + "".join(f"{seed},{s + 50 * seed},{v}\n" for seed in range(3) for s, v in rows)
    )
    log, seeds = write_csv(tmp_path / "log.csv", rows), str(tmp_path / "seeds.csv")
    options = ("--by", "seed", "--ceiling", "0.18", "--plot", str(tmp_path / "seeds.svg"))
    said = cli("plateaus", seeds, *options).stdout.splitlines()
    assert [line.split(": ")[0] for line in said] == [f"seeds.csv loss seed {seed}" for seed in range(3)]
    assert b"<svg" in (tmp_path / "seeds.svg").read_bytes()
    found = json.loads(cli("plateaus", seeds, *options, "--json").stdout)["curves"]
    assert [curve["part"] for curve in found] == ["seed 0", "seed 1", "seed 2"]
    assert [round(curve["plateaus"][0]["end"], -2) for curve in found] == [600, 600, 700]
    both = json.loads(cli("plateaus", log, log, "--json").stdout)["curves"]
    assert both[0] == both[1]


def test_stairs_are_labelled_in_words_in_json_and_in_the_picture(cli: Any, tmp_path: Path) -> None:
    noise = random.Random(1)
    log = tmp_path / "stairs.jsonl"
    with log.open("w") as file:
        for step in range(0, 1000, 5):
            epoch, rate = step // 400, 0.1 if step < 600 else 0.01
            loss = 3 - 0.8 * epoch - 0.5 * (step >= 600) + noise.gauss(0, 0.02)
            file.write(json.dumps({"step": step, "loss": loss, "round": epoch, "lr": rate}) + "\n")
    picture = tmp_path / "stairs.html"
    done = cli("plateaus", str(log), "--epoch", "round", "--plot", str(picture))
    assert "there epoch 1 begins" in done.stdout
    assert "there the learning rate changes from 0.1 to 0.01" in done.stdout
    found = json.loads(cli("plateaus", str(log), "--epoch", "round", "--json").stdout)
    assert [(drop["with"], drop["step"]) for drop in found["drops"]] == [
        ("epoch", 400), ("learning rate", 600), ("epoch", 800)
    ]  # fmt: skip
    first = found["plateaus"][0]["coincides"]
    assert first == [{"with": "epoch", "step": 400.0, "words": "epoch 1 begins"}]
    page = picture.read_text()
    assert all(words in page for words in ("epoch 1", "rate 0.01", "95 % interval of the end", "<svg"))
    assert "http" not in page.replace("http://www.w3.org", "")
