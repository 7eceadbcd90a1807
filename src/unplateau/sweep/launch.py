"""Starts worker processes: forked from one server, which imports everything once, or each from nothing.

Which one it is decides multiprocessing: where its own default is to spawn (macOS, Windows), a fork is not safe.
"""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from multiprocessing import get_all_start_methods
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

from unplateau.sweep.worker import STOPPED, Job

LOOK_EVERY = 0.05
"""Seconds between two looks at a process that is waited for."""


class Handle(Protocol):
    """A process that was started, as ``subprocess.Popen`` shows it. ``returncode``: -9 for one that SIGKILL ended."""

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it is not known to have ended."""

    def poll(self) -> int | None:
        """The same after a look."""

    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises subprocess.TimeoutExpired."""


class Watched(ABC):
    """A :class:`Handle` that is waited for by looking."""

    @abstractmethod
    def poll(self) -> int | None:
        """See :class:`Handle`."""

    def wait(self, timeout: float | None = None) -> int:
        """See :class:`Handle`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a run", timeout or 0.0)
            time.sleep(LOOK_EVERY)
        return code


Launch = Callable[[Job, Path], Handle]
"""Starts a process that does the job; what it says goes to the file."""


Engine = Callable[[Path, int], AbstractContextManager[Launch]]
"""Makes a :data:`Launch` of processes of so many threads each; the folder is for what serves this process alone."""


@contextmanager
def local(scratch: Path, threads: int) -> Iterator[Launch]:
    """The engine of this machine: its processes are out of reach of the terminal's Ctrl-C."""
    environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    environment = {**os.environ, **environment}
    if get_all_start_methods()[0] == "spawn":
        yield lambda job, said: spawned(job, said, environment)
        return
    server = ForkServer(scratch / "server.stderr", environment)
    try:
        yield server.launch
    finally:
        server.close()


def spawned(job: Job, said: Path, environment: dict[str, str]) -> Handle:
    """A worker in an interpreter of its own."""
    with said.open("wb") as file, TemporaryFile() as orders:
        orders.write(replace(job, parent=os.getpid()).as_json().encode())
        orders.seek(0)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "unplateau.sweep.worker"],
            env=environment,
            stdin=orders,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


class ForkServer:
    """The process ``unplateau.sweep.server``, begun with the first worker and again after its death.

    Workers whose server is gone stop by themselves, saved, as they do without their parent; here they count as stopped.
    """

    def __init__(self, said: Path, environment: dict[str, str]) -> None:
        self._said, self._environment = said, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._alive: dict[int, Forked] = {}
        self._n_started = 0
        self._unfinished = b""

    def launch(self, job: Job, said: Path) -> Handle:
        """Starts a worker."""
        self.hear()
        if self._process is None:
            self._process = self._begun()
        said.touch()
        number = self._n_started
        self._n_started += 1
        child = self._alive[number] = Forked(self, number, said)
        job = replace(job, parent=self._process.pid)
        self.order({"number": number, "said": str(said.resolve()), "job": asdict(job)})
        return child

    def _begun(self) -> subprocess.Popen[bytes]:
        with self._said.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "unplateau.sweep.server"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,
            )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._unfinished = b""
        return process

    def order(self, order: dict[str, object]) -> None:
        """Writes an order, unless the server is gone."""
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                self.hear()  # what it has said before it went

    def hear(self) -> None:
        """Takes note of what has ended."""
        while self._process is not None and self._process.stdout is not None:
            try:
                read = os.read(self._process.stdout.fileno(), 2**16)
            except BlockingIOError:  # nothing new
                return
            if not read:
                self._lost()
                return
            *lines, self._unfinished = (self._unfinished + read).split(b"\n")
            for number, code in map(json.loads, lines):
                self._alive.pop(number).returncode = code

    def _lost(self) -> None:
        """The server was killed, or has failed: then its words are those of all that it should have begun."""
        code, words = self.close(), self._said.read_bytes()
        for child in self._alive.values():
            child.returncode = code if code > 0 else STOPPED
            with child.said.open("ab") as said:
                said.write(words)
        self._alive.clear()

    def close(self) -> int:
        """Lets the server go, and returns its exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.communicate()
        return process.returncode


class Forked(Watched):
    """A worker that the server has forked."""

    def __init__(self, server: ForkServer, number: int, said: Path) -> None:
        self._server, self._number, self.said = server, number, said
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """See :class:`Handle`."""
        self._server.hear()
        return self.returncode

    def terminate(self) -> None:
        """See :class:`Handle`."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """See :class:`Handle`."""
        self._send(signal.SIGKILL)

    def _send(self, name: signal.Signals) -> None:
        if self.poll() is None:
            self._server.order({"number": self._number, "signal": int(name)})
