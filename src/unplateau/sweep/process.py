"""One run in a process of its own, as its parent sees it: its directory, its exit code, what it said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from unplateau import store
from unplateau.sweep.worker import STOPPED
from unplateau.train.spec import RunSpec

GRACE = 120.0
"""Seconds that a process may take to finish its step and save a checkpoint before it is killed."""


@dataclass(frozen=True)
class RunFailure:
    """A run that ended without being done: ``message`` is the line its process left."""

    path: Path
    name: str
    exit_code: int
    message: str


class RunProcess:
    """A run and, once started, its process. ``scratch`` names files that only serve the start."""

    def __init__(self, spec: RunSpec, name: str, out: Path, scratch: Path, *, threads: int, device: str) -> None:
        self.spec, self.name, self.path = spec, name, spec.directory(out)
        self._said = scratch.with_suffix(".stderr")
        self._spec_file = scratch.with_suffix(".json")
        self._threads = threads
        self._command = [sys.executable, "-P", "-m", "unplateau.sweep.worker", str(self._spec_file), str(out)]
        self._command += ["--device", device, "--threads", str(threads), "--parent", str(os.getpid())]
        self._command += ["--command", json.dumps(sys.argv)]
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

    def start(self) -> None:
        """Starts the process, out of reach of the terminal's Ctrl-C: the parent decides what it is told."""
        self._spec_file.write_text(self.spec.model_dump_json(), encoding="utf-8")
        threads = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **threads, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    @property
    def finished(self) -> bool:
        """Is the run done, by this process or an earlier one?"""
        return (self.path / store.DONE).exists()

    @property
    def running(self) -> bool:
        """Has it been started and not ended?"""
        return self._process is not None and self._process.poll() is None

    def ask_to_stop(self) -> None:
        """SIGTERM, once: a second one would stop it before it has saved."""
        if self._process is not None and self.running and not self._asked:
            self._asked = True
            self._process.terminate()

    def wait(self) -> None:
        """Waits for its end, and kills it when that takes longer than ``GRACE``."""
        if self._process is None:
            return
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def stopped(self) -> bool:
        """Did it end because it was asked to, with nothing lost?"""
        asked = self._asked and self._process is not None
        return asked and self._process.returncode in (STOPPED, -signal.SIGTERM)  # type: ignore[union-attr]

    def failure(self) -> RunFailure | None:
        """Why it is not done; None if it is, was stopped, or has never been needed."""
        if self._process is None or self._process.returncode == 0 or self.stopped:
            return None
        code, lines = self._process.returncode, self._lines()
        if code is not None and code < 0:
            message = f"killed by {signal.Signals(-code).name}; run the same command again to resume"
        else:
            message = lines[-1] if lines else f"ended with exit code {code}"
        return RunFailure(self.path, self.name, code or 1, message)

    def warnings(self) -> list[str]:
        """What it said besides its last words; after a traceback (a bug) only those count."""
        lines = self._lines()
        if any(line.startswith("Traceback ") for line in lines):
            return []
        return lines[:-1] if self.failure() or self.stopped else lines

    def _lines(self) -> list[str]:
        if not self._said.exists():
            return []
        return [line for line in self._said.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
