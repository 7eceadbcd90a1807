"""Progress in words, and where it goes."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

import unplateau as up
from unplateau.store import RunState
from unplateau.train.progress import Bars, Lines, Pace, bar_html, display, duration, is_watched

WAITING = RunState("mixed[fraction=0.25], seed 0", Path("r"), total=100)
RUNNING = replace(WAITING, state="running")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_pace_counts_from_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    pace = Pace()
    assert pace.facts(WAITING) == "step 0/100  waiting"
    assert pace.facts(replace(RUNNING, step=50)) == "step 50/100"  # resumed: these were not made now
    assert pace.facts(replace(RUNNING, step=60, progress=0.25)) == (
        "step 60/100  progress 0.25  2.0 steps/s  20 s left"
    )


def test_lines_are_sparse(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines(0, WAITING)
    for step in range(101):
        lines(0, replace(RUNNING, step=step))
    lines(0, replace(RUNNING, state="done", step=100))
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 12
    assert written[0] == "mixed[fraction=0.25], seed 0: step 0/100"
    assert written[-1].endswith("step 100/100 done")


def test_bars_take_names_literally() -> None:
    console = Console(file=io.StringIO(), width=100, markup=False, force_terminal=True)
    columns = (TextColumn("{task.description}", markup=False), TextColumn("{task.fields[facts]}", markup=False))
    with Progress(*columns, console=console) as progress:
        bars = Bars(progress, few=True)
        bars(0, WAITING)
        bars(0, replace(RUNNING, step=30))
        assert progress.tasks[0].completed == 30
    assert "mixed[fraction=0.25], seed 0" in console.file.getvalue()  # type: ignore[attr-defined]


def test_of_many_runs_only_those_that_run_are_shown() -> None:
    progress = Progress()
    bars = Bars(progress, few=False)
    bars(0, WAITING)
    bars(1, RUNNING)
    assert [task.visible for task in progress.tasks] == [False, True]


def test_no_bars_in_a_pipe() -> None:
    with display() as show:
        assert isinstance(show, Lines)


def test_a_bar_in_a_notebook_is_escaped() -> None:
    text = bar_html(replace(RUNNING, name="<b>", step=30, state="done"), "step 30/100")
    assert 'value="30" max="100"' in text
    assert "&lt;b&gt;" in text
    assert "step 30/100 done" in text


def test_it_is_shown_where_a_person_looks_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8, copies=20), n_pairs=4)
    train = up.TrainConfig(steps=30, batch_size=8, eval_every=20, probe_every=0, final_prompts=16)
    spec = up.RunSpec(task=task, model=up.ModelConfig(width=8), train=train)
    rows = {}
    for asked, observers in ((None, ()), (True, ()), (False, None), (True, None)):
        folder = tmp_path / f"{asked}{observers}"
        run = up.train(spec, out=folder, device="cpu", observers=observers, progress=asked)
        rows[asked, observers] = (run.path / "metrics.jsonl").read_bytes()
        assert bool(capsys.readouterr().err) == bool(asked)
    assert rows[None, ()] == rows[True, ()]
    assert rows[False, None] == rows[True, None]
    assert not is_watched()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert is_watched()
