"""Damaged, foreign and unwritable run directories: nothing is lost, and the way on is named."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from unplateau.store import load_run


@pytest.fixture
def interrupted(cli: Any, whole: Path) -> Path:
    """A run directory that was left after its last checkpoint but before ``DONE.json``."""
    shutil.copytree(whole, cli.folder / "runs")
    run: Path = cli.run_below(cli.folder / "runs")
    (run / "DONE.json").unlink()
    return run


def truncate(folder: Path) -> None:
    tensors = folder / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])


def flip_a_bit(folder: Path) -> None:
    tensors = folder / "tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)


def make_foreign(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"digest": "0123456789"}))


def test_a_bad_checkpoint_falls_back_to_the_one_before(cli: Any, whole: Path, interrupted: Path) -> None:
    flip_a_bit(cli.checkpoints(interrupted)[-1])
    warning = cli("train", "tiny.json").stderr.splitlines()[0]
    assert warning.startswith("unplateau: ")
    assert "checkpoint is damaged" in warning
    assert warning.endswith("going back to step 200")
    assert cli.trajectory(cli.folder / "runs") == cli.trajectory(whole)


def test_no_whole_checkpoint_is_an_error_that_touches_nothing(cli: Any, interrupted: Path) -> None:
    older, newer = cli.checkpoints(interrupted)
    truncate(older)
    make_foreign(newer)
    rows = (interrupted / "metrics.jsonl").read_bytes()
    message = cli.refused("train", "tiny.json", code=1)
    assert "belongs to another spec" in message
    assert "no older one is whole" in message
    assert (interrupted / "metrics.jsonl").read_bytes() == rows


def test_a_directory_of_another_spec_is_refused(cli: Any, interrupted: Path) -> None:
    spec = json.loads((interrupted / "spec.json").read_text())
    spec["train"]["lr"] = 0.5
    (interrupted / "spec.json").write_text(json.dumps(spec))
    rows = (interrupted / "metrics.jsonl").read_bytes()
    assert "was written by another spec" in cli.refused("train", "tiny.json")
    assert (interrupted / "metrics.jsonl").read_bytes() == rows


def test_a_damaged_run_is_named_and_left_out(cli: Any, interrupted: Path) -> None:
    (interrupted / "task.json").write_text("{")
    assert f"{interrupted.relative_to(cli.folder)}: left out: task.json" in cli.refused("ls", "runs", code=1)


SCRIPT = """
mount -t tmpfs -o size={small} tmpfs {disk} || exit 77
{train} --out {disk}; echo "code $?"
cp -r {disk} {after}
mount -o remount,size=20m {disk}
{train} --out {disk}; echo "code $?"
cp -r {disk} {end}
"""


def can_mount() -> bool:
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def on_a_small_disk(cli: Any, n_kilobytes: int) -> subprocess.CompletedProcess[str]:
    """Trains on a file system of that size in a mount namespace of its own, then again with space."""
    disk = cli.folder / "disk"
    disk.mkdir()
    script = SCRIPT.format(
        small=f"{n_kilobytes}k",
        disk=disk,
        after=cli.folder / "after",
        end=cli.folder / "end",
        train=" ".join([*cli.program, "train", "tiny.json"]),
    )
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=cli.folder, capture_output=True, text=True, check=False
    )


def test_a_full_disk_loses_nothing(cli: Any, whole: Path) -> None:
    kilobytes = sum(path.stat().st_size for path in cli.checkpoints(cli.run_below(whole))[-1].iterdir()) / 1000
    done = on_a_small_disk(cli, round(1.5 * kilobytes) + 60)
    if "code" not in done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}; the next test stands in")
    assert done.stdout.splitlines()[0] == "code 1", done.stdout + done.stderr
    assert "cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    left = cli.run_below(cli.folder / "after")
    assert len(load_run(left).history) > 0
    assert [path.name for path in cli.checkpoints(left)] == ["step-00000050"]
    assert not list(left.rglob("*.part"))
    assert "code 0" in done.stdout
    assert cli.trajectory(cli.folder / "end") == cli.trajectory(whole)


def test_files_that_may_not_grow_lose_nothing(cli: Any, whole: Path) -> None:
    """The same where nothing can be mounted: the system refuses every file larger than a few kilobytes."""
    if can_mount():
        pytest.skip("a small file system can be mounted here, which is nearer to a full disk: see the test before")
    limit = "import resource, signal, sys; from unplateau.cli.main import main;"
    limit += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, -1)); sys.exit(main(['train', 'tiny.json']))"
    refused = subprocess.run([cli.program[0], "-c", limit], cwd=cli.folder, capture_output=True, text=True, check=False)
    assert refused.returncode == 1, refused.stderr
    assert "cannot be written (File too large)" in refused.stderr.splitlines()[-1]
    cli("train", "tiny.json")
    assert cli.trajectory(cli.folder / "runs") == cli.trajectory(whole)
