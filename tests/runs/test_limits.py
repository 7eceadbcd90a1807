"""Limits that only a process of its own shows: crashes, terminals, memory, and what is imported before a refusal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runs.conftest import PROGRAM

ROOM = 6_000_000_000
"""Bytes of address space: less than any of these would take if it were tried."""
LITTLE_ROOM = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({ROOM}, {ROOM}))
from unplateau.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("train tiny.json --set train.batch_size=1000000000000", ("GB", "largest batch")),
        ("train tiny.json --set model.n_layers=1000000000", ("GB", "model with optimiser")),
        ("train tiny.json --set train.steps=1000000000000", ("hours", "updates")),
        ("train tiny.json --threads 100000", ("threads", "1024")),
        ("sweep tiny.json --seeds 1000000000", ("5,000 GB",)),
        ("sweep tiny.json --seeds 2 --threads 100000", ("threads", "1024")),
        ("sweep tiny.json --seeds 10000 --workers 10000", ("10000 processes at a time", "GB")),
        ("plateaus /dev/zero", ("/dev/zero", "a device")),
        ("train words --set task.source.lexicon=/dev/zero", ("/dev/zero", "a device")),
    ],
)
def test_refused_before_memory_and_time_are_spent(cli: Any, arguments: str, parts: tuple[str, ...]) -> None:
    process = cli.python("-c", LITTLE_ROOM, *arguments.split(), cwd=cli.folder)
    assert process.returncode == 2, process.stderr
    (line,) = process.stderr.splitlines()
    assert all(part in line for part in parts), line
    assert process.stdout == ""
    assert sorted(path.name for path in cli.folder.iterdir()) == ["tiny.json"]


@pytest.mark.parametrize(
    "command", ["demo", "train tiny.json", "sweep tiny.json", "reproduce language", "reproduce crossing"]
)
@pytest.mark.parametrize("out", ["tiny.json", "tiny.json/below/it", "/proc/nowhere"])
def test_an_unwritable_folder_is_refused_once_and_before_torch_is_imported(cli: Any, command: str, out: str) -> None:
    code = (
        "import sys; from unplateau.cli.main import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'scipy', 'matplotlib'} & set(sys.modules); sys.exit(code)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--out", out],
        cwd=cli.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"unplateau: {out}: cannot be written (")
    assert process.stdout == ""


def test_a_folder_that_can_be_made_is_left_unmade_by_a_refusal(cli: Any) -> None:
    cli.refused("train", "tiny.json", "--out", "new/runs", "--set", "train.steps=0")
    cli.refused("train", "tiny.json", "--out", "new/runs", "--set", "train.frozen=[nothing]")
    assert sorted(path.name for path in cli.folder.iterdir()) == ["tiny.json"]


def test_finished_runs_in_a_folder_that_cannot_be_written_are_still_found(whole: Path) -> None:
    code = (
        "import sys, tempfile; from unplateau.cli import arguments\n"
        "def refuse(*_, **__): raise OSError(30, 'Read-only file system')\n"
        "arguments.TemporaryDirectory = refuse\n"
        "from unplateau.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "tiny.json"],
        cwd=whole.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("finished before"), done.stderr


NASTY = "\x1b]0;owned\x07\x1b[31m\x9b2J\r"


def test_a_terminal_sees_no_control_characters_of_a_log(cli: Any) -> None:
    rows = [json.dumps({"step": n, f"loss{NASTY}": 2.0 - n / 100, f"{NASTY}other": n}) for n in range(30)]
    (cli.folder / "some.log").write_text("\n".join(rows), encoding="utf-8")
    seen = on_a_terminal(cli.folder, "plateaus", "some.log", "some.log")
    assert r"\x1b" in seen
    assert seen.replace("\r\n", "").isprintable()


def test_json_of_the_same_is_exact(cli: Any) -> None:
    name = f"loss{NASTY}\x7f"
    rows = [json.dumps({"step": n, name: 2.0 - n / 100}) for n in range(30)]
    (cli.folder / "some.log").write_text("\n".join(rows), encoding="utf-8")
    done = cli("plateaus", "some.log", "--json", "--value", name)
    assert json.loads(done.stdout)["value"] == name
    assert done.stdout.replace("\n", "").isprintable()


def test_bars_and_tables_keep_their_colours(cli: Any) -> None:
    seen = on_a_terminal(cli.folder, "train", "tiny.json", "--set", "train.steps=20")
    assert "\x1b[" in seen
    assert r"\x1b" not in seen


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """All that the program writes where standard output and standard error are a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([*PROGRAM, *arguments], cwd=folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait(120) == 0, b"".join(parts)
    return b"".join(parts).decode()
