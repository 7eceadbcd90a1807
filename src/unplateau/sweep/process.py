"""One run in a process of its own, as its parent sees it: its directory, its exit code, what it said."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from unplateau.store import RunState
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.launch import Launch
from unplateau.sweep.worker import STOPPED, Job
from unplateau.train.spec import RunSpec

GRACE, KILLED = 120.0, 10.0
"""Seconds that a process may take to finish its step and save a checkpoint before it is killed, and to end then."""


def job_of(spec: RunSpec, out: Path, *, threads: int, device: str) -> Job:
    """What another process must know to train this spec; it finds modules where this one does."""
    path = tuple(str(Path(entry).resolve()) for entry in sys.path)
    return Job(spec.model_dump_json(), str(out), str(spec.directory("")), device, threads, tuple(sys.argv), path)


class RunProcess:
    """A run and its process, out of reach of the terminal's Ctrl-C: the parent decides what it is told.

    ``said``: the file for what it says.
    """

    def __init__(
        self, spec: RunSpec, run: RunState, out: Path, said: Path, launch: Launch, *, threads: int, device: str
    ) -> None:
        self.run, self._out = run, out
        self._asked = False
        self._said = said
        self._process = launch(job_of(spec, out, threads=threads, device=device), said)

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._process.poll() is None

    def ask_to_stop(self) -> None:
        """SIGTERM, once: a second one would stop it before it has saved."""
        if self.running and not self._asked:
            self._asked = True
            self._process.terminate()

    def wait(self, grace: float) -> None:
        """Waits for its end, and kills it when that takes longer than so many seconds.

        A cluster need not say that a job has ended which it was told to kill; nobody waits for that.
        """
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILLED)

    @property
    def stopped(self) -> bool:
        """Did it end because it was asked to, with nothing lost?"""
        return self._asked and self._process.returncode in (STOPPED, -signal.SIGTERM)

    def failure(self) -> RunFailure | None:
        """Why it ended without being done; None if it is done, was stopped, or goes on."""
        code = self._process.returncode
        if code in (None, 0) or self.stopped:
            return None
        lines = self._lines()
        if code < 0:
            message = f"killed by {signal.Signals(-code).name}; run the same command again to resume"
        else:
            message = lines[-1] if lines else f"ended with exit code {code}"
        return RunFailure.of(self.run, self._out, code, message, lines)

    def warnings(self) -> list[str]:
        """What it said besides its last words; after a traceback (a bug) only those count."""
        lines = self._lines()
        if any(line.startswith("Traceback ") for line in lines):
            return []
        return lines[:-1] if self.failure() or self.stopped else lines

    def _lines(self) -> list[str]:
        return [line for line in self._said.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
