"""One run in a process of its own, as its parent sees it: its directory, its exit code, what it said."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from unplateau.errors import UnplateauError
from unplateau.files import write_whole
from unplateau.store import RunState
from unplateau.sweep.launch import Launch
from unplateau.sweep.worker import STOPPED, Job
from unplateau.train.spec import RunSpec

LOGS = ".logs"
"""Folder beside the runs for what those said that have failed, unless it was one line."""
GRACE, KILLED = 120.0, 10.0
"""Seconds that a process may take to finish its step and save a checkpoint before it is killed, and to end then."""


@dataclass(frozen=True)
class RunFailure:
    """A run that ended without being done: ``message`` is the line its process left, and where the others are."""

    path: Path
    name: str
    exit_code: int
    message: str


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
        self.run = run
        self._asked = False
        self._said = said
        job = job_of(spec, out, threads=threads, device=device)
        self._log = out / LOGS / f"{job.run}.log"
        self._process = launch(job, said)

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
        return RunFailure(self.run.path, self.run.name, code, message + kept_log(self._log, lines, message))

    def warnings(self) -> list[str]:
        """What it said besides its last words; after a traceback (a bug) only those count."""
        lines = self._lines()
        if any(line.startswith("Traceback ") for line in lines):
            return []
        return lines[:-1] if self.failure() or self.stopped else lines

    def _lines(self) -> list[str]:
        return [line for line in self._said.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def kept_log(log: Path, lines: Sequence[str], message: str) -> str:
    """Keeps what a run has said that has failed, and names the file; nothing where the message says it all."""
    if not lines or [*lines] == [message]:
        return ""
    with suppress(UnplateauError):  # a full disk may be why it failed
        write_whole(log, "".join(f"{line}\n" for line in lines).encode())
        return f" (its log: {log})"
    return ""
