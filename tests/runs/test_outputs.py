"""Outputs never destroy: what is not ours stays as it is, whatever is in the way and whichever command writes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import unplateau as up
from run_directories import MadeRun, make_runs
from small_runs import SPEC
from unplateau.analysis.compare import by_strategy
from unplateau.analysis.runs import summaries
from unplateau.cli.main import main
from unplateau.errors import OutputError, SpecError
from unplateau.files import RowFile, write_whole
from unplateau.integrations.trajectory import begin_rows
from unplateau.integrations.watch import Watch
from unplateau.report import plots

CURVE = "\n".join(f"{step},{2.0 if step < 40 else 0.5}" for step in range(0, 80, 2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder, [MadeRun(steps=100, probes=False, prompts=False)])
    (folder / "log.csv").write_text(f"step,loss\n{CURVE}\n")
    return folder


def report(runs: Path, out: Path) -> list[str]:
    return ["report", str(runs), "--out", str(out)]


def figures(runs: Path, out: Path) -> list[str]:
    return ["report", str(runs), "--out", str(out.parent / "page.html"), "--figures", str(out.parent), "--csv"]


def plot(runs: Path, out: Path) -> list[str]:
    return ["plateaus", str(runs / "log.csv"), "--plot", str(out)]


def demo(runs: Path, out: Path) -> list[str]:
    """Refused at once: an unknown setting would be the next thing to be told of."""
    return ["demo", "--out", str(out.parent), "--set", "train.steps=20", "--seeds", "1"]


def study(runs: Path, out: Path) -> list[str]:
    return ["reproduce", "crossing", "--out", str(out.parent)]


def language(runs: Path, out: Path) -> list[str]:
    return ["reproduce", "language", "--out", str(out.parent.parent)]


Command = Callable[[Path, Path], list[str]]
WRITERS: list[tuple[Command, str]] = [
    (report, "report.html"),
    (figures, "results.csv"),
    (plot, "flat.png"),
    (plot, "flat.svg"),
    (plot, "flat.pdf"),
    (plot, "flat.html"),
]
BEFORE_TRAINING: list[tuple[Command, str]] = [
    (demo, "report.html"),
    (demo, "summary.json"),
    (study, "crossing.jsonl"),
    (language, "words/summary.json"),
    (language, "words/report.html"),
]


def names(cases: Sequence[tuple[Command, str]]) -> list[str]:
    return [f"{command.__name__} {name}" for command, name in cases]


def notes(path: Path) -> None:
    path.write_text("my notes, for years\nwithout a line break at the end")


def page(path: Path) -> None:
    path.write_text('<!doctype html><meta name="generator" content="somebody"><p>mine</p>')


def numbers(path: Path) -> None:
    path.write_text('{"runs": 3}')


def table(path: Path) -> None:
    path.write_text("strategy,seed,mine\nplain,0,1\n")


FOREIGN = (notes, page, numbers, table)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("mine")


def link(path: Path) -> None:
    (path.parent / "theirs").write_text("mine")
    path.symlink_to("theirs")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "not there yet")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only an administrator can make a device")


IRREGULAR = (folder, link, dangling, pipe, device)


def shape(path: Path) -> tuple[object, ...]:
    """What is there, as far as anything could have changed it."""
    status = path.lstat()
    held = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    inside = sorted(path.iterdir()) if stat.S_ISDIR(status.st_mode) else None
    theirs = path.parent / "theirs"
    target = theirs.read_bytes() if theirs.exists() else None
    return status.st_mode, status.st_ino, status.st_mtime_ns, status.st_rdev, held, inside, target


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("in_the_way", [*FOREIGN, *IRREGULAR])
@pytest.mark.parametrize(("command", "name"), WRITERS[::5], ids=names(WRITERS[::5]))
def test_what_is_in_the_way_stays(
    command: Command,
    name: str,
    in_the_way: Callable[[Path], None],
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_the_way(tmp_path / name)
    before = shape(tmp_path / name)
    assert str(tmp_path / name) in refused(capsys, command(runs, tmp_path / name))
    assert shape(tmp_path / name) == before
    if in_the_way in IRREGULAR:
        refused(capsys, [*command(runs, tmp_path / name), "--force"])
        assert shape(tmp_path / name) == before


@pytest.mark.parametrize(("command", "name"), WRITERS, ids=names(WRITERS))
def test_foreign_files_need_force_and_ours_do_not(
    command: Command, name: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes(tmp_path / name)
    assert "is not of our making" in refused(capsys, command(runs, tmp_path / name))
    assert (tmp_path / name).read_text().startswith("my notes")
    assert main([*command(runs, tmp_path / name), "--force"]) == 0
    first = (tmp_path / name).read_bytes()
    assert b"my notes" not in first
    assert main(command(runs, tmp_path / name)) == 0, "ours is replaced by the same command"
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("form", ["csv", "png"])
def test_figures_need_force_as_well(form: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_loss = {"loss": plots.all_panels(by_strategy(summaries(runs)))["loss"]}
    monkeypatch.setattr(plots, "all_panels", lambda _: only_loss)
    notes(tmp_path / f"loss.{form}")
    with pytest.raises(OutputError):
        plots.save_figures(runs, tmp_path, (form,))
    plots.save_figures(runs, tmp_path, (form,), force=True)
    plots.save_figures(runs, tmp_path, (form,))


@pytest.mark.parametrize("in_the_way", [notes, link, folder])
@pytest.mark.parametrize(("command", "name"), BEFORE_TRAINING, ids=names(BEFORE_TRAINING))
def test_commands_that_train_say_so_first(
    command: Command,
    name: str,
    in_the_way: Callable[[Path], None],
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    in_the_way(tmp_path / name)
    before = shape(tmp_path / name)
    assert str(tmp_path / name) in refused(capsys, command(runs, tmp_path / name))
    assert shape(tmp_path / name) == before
    assert {path.name for path in (tmp_path / name).parent.iterdir()} <= {Path(name).name, "theirs"}


@pytest.mark.parametrize("in_the_way", [*FOREIGN, *IRREGULAR])
@pytest.mark.parametrize(
    "begin",
    [begin_rows, lambda path: Watch(path).begin(0), lambda path: Watch(path).record(1, loss=1.0)],
    ids=["trajectory", "a watch begins", "a watch records"],
)
def test_rows_are_never_added_to_what_is_not_ours(
    begin: Callable[[Path], object], in_the_way: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    in_the_way(path)
    before = shape(path)
    with pytest.raises(OutputError, match=r"rows\.jsonl"):
        begin(path)
    assert shape(path) == before


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        ("", True),
        ('{"step":1,"revision":"a","digest":"b"}\n', True),
        ('{"step":1,"revision":"a","digest":"b"}\n{"step":2,"rev', True),
        ('{"step":1,"revision":"a","digest":"b"}\nmine', False),
        ('{"step":1,"revision":"a","digest":"b"}\nmine\n', False),
        ('{"step":1,"revision":"a","digest":"b"}', False),
        ('{"step":1}\n', False),
        ("[]\n", False),
        ("\n", False),
        ("\x00" * 9, False),
    ],
)
def test_rows_of_a_trajectory_are_known(content: str, ours: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    if ours:
        begin_rows(path)
    else:
        with pytest.raises(OutputError):
            begin_rows(path)
    assert path.read_text() == content
    begin_rows(path, force=True)
    assert path.read_text() == (content if ours else "")


def test_a_log_of_others_that_has_steps_is_not_taken_for_a_watchs(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(5)))
    before = log.read_bytes()
    with pytest.raises(OutputError, match=r"choose another path$"):
        Watch(log).begin(0)
    assert log.read_bytes() == before
    own = Watch(tmp_path / "own.jsonl")
    own.record(1, loss=1.0)
    Watch(tmp_path / "own.jsonl").begin(0)
    assert (tmp_path / "own.jsonl").read_bytes() == b""


@pytest.mark.parametrize("in_the_way", IRREGULAR)
@pytest.mark.parametrize("write", [lambda path: write_whole(path, b"x"), RowFile], ids=["whole", "rows"])
def test_nothing_ever_writes_through_a_link_or_over_a_device(
    write: Callable[[Path], object], in_the_way: Callable[[Path], None], tmp_path: Path
) -> None:
    in_the_way(tmp_path / "file")
    before = shape(tmp_path / "file")
    with pytest.raises(OutputError):
        write(tmp_path / "file")
    assert shape(tmp_path / "file") == before
    assert not (tmp_path / "not there yet").exists()


# Names.

BAD_NAMES = ["..", ".", "", "../x", "/tmp/x", "a/b", "a\\b", "a\nb", "a\x1bb", "a\x00b", "x" * 256, "\u00e9" * 128]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_recipe_leaves_the_output_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="recipe") as caught:
        SPEC.with_settings({"recipe": name})
    assert "\n" not in str(caught.value)
    data = SPEC.model_dump(mode="json") | {"recipe": name}
    (tmp_path / "spec.json").write_text(json.dumps(data))
    with pytest.raises(SpecError, match="recipe"):
        up.load_model(tmp_path)
    with pytest.raises(SpecError, match="recipe"):
        up.extend(tmp_path, 100)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_strategy_leaves_the_output_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up.Strategy, "name", property(lambda _: name))
    with pytest.raises(SpecError, match="strategy: ") as caught:
        up.train(SPEC, out=tmp_path / "runs", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_names_as_they_are_used_stay() -> None:
    for name in ("demo", "word-selection", "a.b", "..a", "été", "x" * 255):
        assert SPEC.with_settings({"recipe": name}).directory("out").parts[1] == name
