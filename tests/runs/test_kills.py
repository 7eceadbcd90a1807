"""Killed at every kind of file-system call, or in the middle of a write, and resumed, a run ends the same.

The kills are real (SIGKILL of a process of its own, SIGXFSZ where a write crosses a limit); the calls are those that
Python tells its auditors of, just before it makes them.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unplateau as up
from small_runs import SPEC, copied, plain_name, trained, trajectory

CHILDREN = multiprocessing.get_context("fork")
CHANGES = ("os.rename", "os.truncate", "os.remove", "os.mkdir", "os.rmdir")
Call = tuple[str, str]


def changing_call(event: str, args: tuple[Any, ...]) -> Call | None:
    """What is called on which file, if it changes the file system."""
    if event in CHANGES:
        return event.removeprefix("os."), plain_name(args[0])
    if event != "open" or not isinstance(args[0], str | bytes):
        return None
    mode, flags = args[1] or "", args[2] or 0
    writes = bool(set(mode) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return ("open", plain_name(args[0])) if writes and not str(args[0]).startswith("/dev/") else None


def in_a_child(work: Callable[[], object]) -> int:
    """How a child process that does ``work`` has ended."""

    def quietly() -> None:
        with Path(os.devnull).open("w") as sys.stderr:
            work()

    child = CHILDREN.Process(target=quietly)
    child.start()
    child.join(120)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode is not None, "it hung"
    return child.exitcode


def trained_until(number: int, out: Path) -> int:
    """Trains in a child, which is killed just before change number ``number`` of the file system; how it has ended."""
    left = number

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if changing_call(event, args):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        sys.addaudithook(hook)
        trained(out)

    return in_a_child(work)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    up.floors(SPEC.task)  # once, before the forks
    return trained(tmp_path_factory.mktemp("whole")).path


@pytest.fixture(scope="module")
def calls(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """All changes of the file system that a run makes, in order."""
    folder = tmp_path_factory.mktemp("calls")
    told = folder / "calls"

    def work() -> None:
        found: list[Call] = []
        sys.addaudithook(lambda event, args: found.append(call) if (call := changing_call(event, args)) else None)
        trained(folder / "runs")
        told.write_text("\n".join("\t".join(call) for call in found[:]))

    assert in_a_child(work) == 0
    return [(line.split("\t")[0], line.split("\t")[1]) for line in told.read_text().splitlines()][:-1]


def kinds(calls: list[Call]) -> dict[str, list[int]]:
    """Where each kind of call comes first and last."""
    places: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        places.setdefault(" ".join(call), []).append(number)
    return {kind: sorted({found[0], found[-1]}) for kind, found in places.items()}


EXPECTED = {
    *("open .lock", "open metrics.jsonl", "open costs.jsonl", "open state.json", "open tensors.safetensors"),
    *(f"{call} .{name}.N.part" for call in ("open", "rename") for name in ("env.json", "task.json", "shape.json")),
    *(f"{call} .{name}.N.part" for call in ("open", "rename") for name in ("spec.json", "prompts.npz", "DONE.json")),
    *("mkdir .step-N.part", "rename .step-N.part", "remove state.json", "remove tensors.safetensors"),
}


def test_the_harness_sees_all_kinds_of_calls(calls: list[Call]) -> None:
    assert kinds(calls).keys() >= EXPECTED
    assert len(calls) > 60


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_killed_at_a_call_and_resumed_it_ends_the_same(
    kind: str, whole: Path, calls: list[Call], tmp_path: Path
) -> None:
    for number in kinds(calls)[kind]:
        out = tmp_path / str(number)
        assert trained_until(number, out) == -signal.SIGKILL
        trained(out)
        assert trajectory(SPEC.directory(out)) == trajectory(whole)


def test_killed_again_and_again_it_ends_the_same(whole: Path, tmp_path: Path) -> None:
    """Each process comes a little further than the one before, and finds what several have left."""
    n_kills = 0
    while ended := trained_until(26, tmp_path):
        assert ended == -signal.SIGKILL
        n_kills += 1
        assert n_kills < 20
    assert n_kills >= 2
    assert trajectory(SPEC.directory(tmp_path)) == trajectory(whole)


@pytest.mark.parametrize("n_bytes", [1, 60, 300, 700, 1500, 2600, 5000, 12000])
def test_killed_in_the_middle_of_a_write_it_ends_the_same(n_bytes: int, whole: Path, tmp_path: Path) -> None:
    """The first write that crosses this size is made in part, and kills."""

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
        trained(tmp_path)

    assert in_a_child(work) == -signal.SIGXFSZ
    trained(tmp_path)
    assert trajectory(SPEC.directory(tmp_path)) == trajectory(whole)


@pytest.mark.parametrize("name", ["metrics.jsonl", "costs.jsonl"])
def test_rows_that_a_power_cut_took_cost_a_checkpoint_and_no_more(
    name: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copied(whole, tmp_path, unfinished=True)
    rows = (run / name).read_bytes()
    (run / name).write_bytes(rows[: len(rows) - 5])
    trained(tmp_path)
    assert f"counts on rows that are missing in {name}; going back to step 6" in caplog.text
    assert trajectory(run) == trajectory(whole)


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename of a checkpoint comes after a flush of both row files as they are then; a row alone flushes none."""
    flushed: dict[str, int] = {}
    renamed, n_flushes, run = [], 0, SPEC.directory(tmp_path)
    fsync, replace = os.fsync, os.replace
    rows = {os.path.realpath(run / name): name for name in ("metrics.jsonl", "costs.jsonl")}

    def watch_fsync(descriptor: int) -> None:
        nonlocal n_flushes
        if name := rows.get(os.path.realpath(f"/proc/self/fd/{descriptor}")):
            flushed[name] = os.fstat(descriptor).st_size
            n_flushes += 1
        fsync(descriptor)

    def watch_replace(source: Path, target: Path, **how: Any) -> None:
        if Path(target).name.startswith("step-"):
            sizes = {name: (run / name).stat().st_size for name in rows.values()}
            renamed.append(Path(target).name)
            assert flushed == sizes
        replace(source, target, **how)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_replace)
    trained(tmp_path)
    assert len(renamed) == 3
    assert n_flushes == 2 * len(renamed)
