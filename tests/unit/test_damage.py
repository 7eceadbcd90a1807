"""A folder with damaged runs: each is named in one line and left out, whatever is wrong with it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import unplateau as up
from run_directories import MadeRun, make_runs
from unplateau.cli.main import main, warnings_told
from unplateau.damage import LeftOut, reason
from unplateau.errors import DamagedRunsError, RunDirectoryError
from unplateau.report import save_figures
from unplateau.report.page import reportable
from unplateau.store import COSTS, DONE, ENV, LOCK, METRICS, PROMPTS, SPEC, TASK, find_runs, glance, locked

SMALL = tuple(MadeRun(name, seed, 60, steps=120, eval_every=30) for name in ("plain", "mixed") for seed in (0, 1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make_runs(folder, SMALL)
    return folder


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "runs")
    return tmp_path / "runs"


def hurt_one(runs: Path) -> Path:
    """The run that is to be damaged."""
    return next((runs / "demo" / "mixed").glob("seed-1-*"))


def edited(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return edit


def rows_edited(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Every row of a row file changed."""

    def edit(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            change(row)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return edit


def fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


NESTED = b'{"run": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ANY_FILE: dict[str, Callable[[Path], object]] = {
    "empty": replaced(b""),
    "cut": half,
    "not UTF-8": replaced(b"\xff\xfe\x00{"),
    "zeros": replaced(bytes(200)),
    "no object": replaced(b"[1, 2]\n"),
    "nested": replaced(NESTED + b"\n"),
    "a number of 5,000 digits": replaced(b'{"step": ' + b"9" * 5000 + b"}\n"),
    "a folder": fold,
    "a pipe": pipe,
}
NAMED = {SPEC: ANY_FILE, ENV: ANY_FILE, TASK: ANY_FILE, DONE: ANY_FILE, METRICS: ANY_FILE}
ONE_OF_A_KIND: list[tuple[str, str, Callable[[Path], object]]] = [
    *((name, "missing", Path.unlink) for name in (SPEC, ENV, TASK)),
    *((name, "a dangling link", dangling) for name in (SPEC, ENV, TASK)),
    *(
        (ENV, f"{key} is a list", edited(lambda env, key=key: env["run"].update({key: []})))
        for key in ("recipe", "strategy")
    ),
    (ENV, "seed is a text", edited(lambda env: env["run"].update(seed="0"))),
    (ENV, "seed is true", edited(lambda env: env["run"].update(seed=True))),
    (ENV, "cut is unknown", edited(lambda env: env["run"].update(cut="all"))),
    (ENV, "run is missing", edited(lambda env: env.pop("run"))),
    (ENV, "run is a text", edited(lambda env: env.update(run="recipe strategy seed cut"))),
    (ENV, "machine is a list", edited(lambda env: env.update(machine=[1]))),
    (ENV, "versions is null", edited(lambda env: env.update(versions=None))),
    (SPEC, "train is a list", edited(lambda spec: spec.update(train=[]))),
    (SPEC, "train.steps is a text", edited(lambda spec: spec["train"].update(steps="many"))),
    (SPEC, "model is null", edited(lambda spec: spec.update(model=None))),
    (TASK, "no floors", edited(lambda task: task.pop("floors"))),
    (TASK, "floors is a number", edited(lambda task: task.update(floors=3))),
    (METRICS, "steps fall", lambda path: path.write_text("".join(reversed(path.read_text().splitlines(True))))),
    (METRICS, "steps are texts", rows_edited(lambda row: row.update(step=str(row["step"])))),
    (
        METRICS,
        "rows are missing at its end",
        lambda path: path.write_text("".join(path.read_text().splitlines(True)[:3])),
    ),
]
"""What every command that reads a folder notices."""
WHEN_READ: list[tuple[str, str, Callable[[Path], object]]] = [
    (METRICS, "a line in the middle", lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\n!", 2))),
    (METRICS, "a step is missing", lambda path: path.write_text(path.read_text().replace('"step"', '"stop"', 2))),
    (METRICS, "progress is a text", rows_edited(lambda row: row.update(progress="high"))),
    (METRICS, "FLOPs are a list", rows_edited(lambda row: row.update(train_flops=[1]))),
    (METRICS, "a huge number", rows_edited(lambda row: row.update(progress=10**400))),
    (COSTS, "a folder", fold),
    (COSTS, "seconds are a text", rows_edited(lambda row: row.update(seconds="long"))),
    (TASK, "a floor is a text", edited(lambda task: task["floors"].update(bayes_loss=["x"]))),
    (TASK, "an unknown floor", edited(lambda task: task["floors"].update(other=1))),
    (DONE, "progress is a list", edited(lambda done: done.update(test_progress=[]))),
]
"""What is noticed where whole runs are read; ``ls`` reads the last row alone."""
WHEN_SHOWN: list[tuple[str, str, Callable[[Path], object]]] = [
    (TASK, "no factor names", edited(lambda task: task.pop("factor_names"))),
    (TASK, "parameters are a text", edited(lambda task: task.update(parameters="few"))),
    (METRICS, "losses are texts", rows_edited(lambda row: row.update(loss="low"))),
    (
        METRICS,
        "scores of a layer are missing",
        rows_edited(lambda row: "weights_score" in row and row["weights_score"].pop()),
    ),
    (METRICS, "no control", rows_edited(lambda row: row.pop("weights_control", None))),
    (METRICS, "a chance is a text", rows_edited(lambda row: row.update(weights_chance="x"))),
    (SPEC, "the kind of the task is a list", edited(lambda spec: spec["task"].update(kind=[1]))),
]
"""What only a report shows."""

EVERYWHERE = [
    (name, what, how)
    for name, kinds in NAMED.items()
    for what, how in kinds.items()
    if (name, what) != (METRICS, "empty")
]
TABLE = [
    *((("ls", "compare", "report"), *one) for one in [*EVERYWHERE, *ONE_OF_A_KIND]),
    *((("compare", "report"), *one) for one in WHEN_READ),
    *((("report",), *one) for one in WHEN_SHOWN),
]


@pytest.mark.parametrize(
    ("commands", "name", "damage"),
    [pytest.param(commands, name, damage, id=f"{name}: {what}") for commands, name, what, damage in TABLE],
)
def test_a_damaged_run_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str], commands, name, damage) -> None:
    hurt = hurt_one(runs)
    damage(hurt / name)
    for command in commands:
        if command == "report":
            warnings_told()
            assert len(reportable(runs)) == 3  # drawing what is left takes long, and is tested below
        else:
            assert main([command, str(runs)]) == 0
        out, err = capsys.readouterr()
        named, counted = err.splitlines()
        assert named.startswith(f"unplateau: {hurt}: left out: ")
        assert counted == "unplateau: 1 of 4 runs left out"
        assert str(hurt) not in out


@pytest.mark.parametrize("command", ["ls", "compare", "report"])
def test_several_are_a_line_each_and_nothing_left_is_an_error(
    runs: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    arguments = [command, str(runs), *(["--out", str(runs.parent / "report.html")] if command == "report" else [])]
    every = find_runs(runs)
    for path in every[:-1]:
        (path / SPEC).write_text("{")
    if command != "compare":  # which has nothing to compare with
        assert main(arguments) == 0
        assert capsys.readouterr().err.splitlines()[-1] == "unplateau: 3 of 4 runs left out"
    (every[-1] / ENV).write_text("")
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [path for path in every if not any(str(path) in line for line in lines)] == []
    assert lines[-1] == "unplateau: nothing is left: none of 4 runs can be read"
    assert not (runs.parent / "report.html").exists() or command == "report"


def test_json_names_what_was_left_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hurt = hurt_one(runs)
    (hurt / TASK).write_text("[]")
    assert main(["compare", str(runs), "--json"]) == 0
    expected = [{"path": str(hurt), "reason": "task.json: must hold a JSON object"}]
    assert json.loads(capsys.readouterr().out)["left_out"] == expected


def test_from_python_it_is_a_warning_and_a_value(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    hurt = hurt_one(runs)
    (hurt / DONE).write_text("[]")
    for found in (up.compare(runs), up.summarise(runs)):
        assert found.left_out == (LeftOut(hurt, "DONE.json: must hold a JSON object"),)
    assert sum(str(hurt) in record.getMessage() for record in caplog.records) == 2
    assert len(up.summarise(runs).runs) == 3
    page = up.write_report(runs, runs.parent / "report.html").read_text()
    assert f"{hurt}: left out: DONE.json: must hold a JSON object" in page
    assert save_figures(runs, runs.parent / "figures", ("csv",))


def test_the_only_run_is_refused_in_one_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hurt = hurt_one(runs)
    (hurt / SPEC).write_text("{")
    for command in ("ls", "compare", "report", "show"):
        assert main([command, str(hurt)]) in (1, 2)
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert "spec.json" in err
    with pytest.raises(DamagedRunsError):
        up.compare(hurt)


@pytest.mark.parametrize(("name", "what", "damage"), [*ONE_OF_A_KIND, *WHEN_READ, *WHEN_SHOWN])
def test_show_says_what_is_wrong(runs: Path, capsys: pytest.CaptureFixture[str], name, what, damage) -> None:
    hurt = hurt_one(runs)
    damage(hurt / name)
    assert main(["show", str(hurt)]) in (0, 2)
    assert "unplateau: unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(300), b"\x93NUMPY" * 20])
def test_damaged_prompts_cost_the_prompts(runs: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    report = runs.parent / "report.html"
    hurt = next((runs / "demo" / "plain").glob("seed-0-*"))
    (hurt / PROMPTS).write_bytes(content)
    assert main(["report", str(runs), "--out", str(report)]) == 0
    assert str(hurt / PROMPTS) in capsys.readouterr().err
    assert "Two prompts" in report.read_text()
    assert main(["report", str(hurt), "--out", str(report)]) == 0
    assert "Two prompts" not in report.read_text()


def test_an_unreadable_folder_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    hurt, scan = hurt_one(runs), os.scandir

    def refuse(path):
        if Path(path) == hurt:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (hurt / SPEC).unlink()
    assert main(["ls", str(runs)]) == 0
    assert str(hurt) in capsys.readouterr().err


def test_a_run_that_is_being_begun_is_no_damaged_one(runs: Path) -> None:
    hurt = hurt_one(runs)
    (hurt / SPEC).unlink()
    assert hurt in find_runs(runs)
    with locked(hurt):
        assert (hurt / LOCK).exists()
        assert hurt not in find_runs(runs)


def test_linked_runs_are_seen_once_and_circles_end(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "links"
    other.mkdir()
    (other / "all").symlink_to(runs)
    (other / "again").symlink_to(runs / "demo")
    (other / "one").symlink_to(hurt_one(runs))
    (other / "itself").symlink_to(other)
    (other / "nowhere").symlink_to(tmp_path / "none")
    (other / "loop").symlink_to(other / "loop")
    (runs / "demo" / "a-up").symlink_to(other)
    assert [path.resolve() for path in find_runs(other)] == [path.resolve() for path in find_runs(runs)]
    assert not any(path.is_symlink() for path in find_runs(runs))
    assert len(find_runs(runs, other)) == 4
    assert len(up.summarise([runs, other / "one"]).runs) == 4


def test_a_glance_is_the_run_with_its_last_row(runs: Path) -> None:
    path = hurt_one(runs)
    seen, record = glance(path), up.load_run(path)
    assert (seen.recipe, seen.strategy, seen.seed, seen.spec) == (
        record.recipe,
        record.strategy,
        record.seed,
        record.spec,
    )
    assert seen.history.last("progress") == record.history.last("progress")
    with (path / METRICS).open("a") as file:
        file.write(json.dumps({"step": 120, "progress": 0.5, "long": "x" * 200_000}) + '\n{"step": 16')
    assert glance(path).history.last("progress") == 0.5


def test_a_reason_does_not_repeat_the_path() -> None:
    path = Path("runs/a")
    assert reason(path, RunDirectoryError("runs/a/env.json: no")) == "env.json: no"
    assert reason(path, RunDirectoryError("runs/a: no")) == "no"
    assert reason(path, PermissionError(13, "Permission denied", "runs/a/x")) == "x: cannot be read (Permission denied)"
