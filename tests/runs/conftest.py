"""The command line as its users meet it: processes of its own, exit codes, and what is left on disk.

Each command starts in a new interpreter at least once (``Cli.anew``, ``Cli.start``); the other processes are forks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from forked import Python

PROGRAM = (sys.executable, "-m", "unplateau")
PATIENCE = 60.0
"""Seconds after which a process that should have got somewhere counts as hung."""

TINY: dict[str, Any] = {
    "recipe": "tiny",
    "task": {
        "kind": "FactorTask",
        "source": {"kind": "RandomCodes", "sizes": [3, 3], "width": 8, "copies": 4},
        "n_pairs": 4,
    },
    "model": {"n_layers": 2, "width": 16, "n_heads": 2},
    "train": {
        "steps": 240,
        "batch_size": 8,
        "eval_every": 20,
        "eval_prompts": 8,
        "probe_every": 80,
        "probe_prompts": 16,
        "checkpoint_every": 50,
        "final_prompts": 16,
    },
}


@dataclass
class Cli:
    """Runs the program in a folder that holds ``tiny.json``."""

    folder: Path
    python: Python
    program: tuple[str, ...] = PROGRAM
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The running process."""
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """The finished process, which ended with this exit code and without a traceback."""
        return self.ended(self.python("-m", "unplateau", *arguments, cwd=self.folder, **environment), code)

    def anew(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """The same in a new interpreter, as users start it."""
        return self.end(self.start(*arguments, **environment), code)

    def end(self, process: subprocess.Popen[str], code: int) -> subprocess.CompletedProcess[str]:
        """Waits for a process that was started."""
        out, err = process.communicate(timeout=4 * PATIENCE)
        return self.ended(subprocess.CompletedProcess(process.args, process.returncode, out, err), code)

    @staticmethod
    def ended(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
        """The same process, which must have ended as it should."""
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def refused(self, *arguments: str, code: int = 2, **environment: str) -> str:
        """What the program says when it refuses: one line on standard error, nothing on standard output."""
        done = self(*arguments, code=code, **environment)
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("unplateau: ")
        assert done.stdout == ""
        return lines[0].removeprefix("unplateau: ")

    def tiny(self, name: str = "tiny.json", **changes: Any) -> str:
        """A spec file like ``tiny.json`` with changes, keys such as ``train__steps``."""
        spec = json.loads(json.dumps(TINY))
        for key, value in changes.items():
            *parents, last = key.split("__")
            place = spec
            for parent in parents:
                place = place[parent]
            place[last] = value
        (self.folder / name).write_text(json.dumps(spec))
        return name

    @staticmethod
    def run_below(out: Path) -> Path:
        """The one run directory below a folder."""
        (spec,) = out.rglob("spec.json")
        return spec.parent

    @staticmethod
    def checkpoints(run: Path) -> list[Path]:
        """Checkpoint folders, oldest first."""
        return sorted((run / "checkpoints").glob("step-*"))

    def trajectory(self, out: Path) -> tuple[bytes, bytes]:
        """Everything that must be the same however often a run was interrupted: its rows and its last tensors."""
        run = self.run_below(out)
        return (run / "metrics.jsonl").read_bytes(), (self.checkpoints(run)[-1] / "tensors.safetensors").read_bytes()

    @staticmethod
    def n_rows(out: Path) -> int:
        """Complete rows of all runs below a folder."""
        return sum(path.read_bytes().count(b"\n") for path in out.rglob("metrics.jsonl"))

    @staticmethod
    def until(happened: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
        """Waits until something has happened, which must be before this process ends."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, "it never happened"
            assert process is None or process.poll() is None, process.communicate()
            time.sleep(0.005)


@pytest.fixture
def cli(tmp_path: Path, python: Python) -> Iterator[Cli]:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    program = Cli(tmp_path, python)
    yield program
    for process in program.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, python: Python) -> Path:
    """Directory ``runs`` with one run of the tiny spec that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    done = Cli(folder, python).anew("train", "tiny.json")
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder / "runs"
