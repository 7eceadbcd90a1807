"""Many runs on this machine, each in a process of its own.

The parent learns how far a run is from its directory only, so a run that is watched and one that is not are the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from unplateau.config import in_script, parts_of
from unplateau.errors import InterruptedRunError, SpecError
from unplateau.store import RunRecord, RunState, Stage, load_run, newest_row
from unplateau.sweep.process import RunFailure, RunProcess
from unplateau.train.interrupt import StopRequest, stop_requests
from unplateau.train.loop import choose_device
from unplateau.train.spec import RunSpec

LOOK_EVERY = 0.2
"""Seconds between two looks at the processes and their directories."""
logger = logging.getLogger(__name__)

OnChange = Callable[[int, RunState], None]


def run_many(
    specs: Sequence[RunSpec],
    *,
    out: str | Path,
    workers: int = 2,
    threads: int = 1,
    device: str = "auto",
    on_change: OnChange | None = None,
) -> list[RunRecord | RunFailure]:
    """Trains these runs, ``workers`` at a time with ``threads`` threads each, and returns them in the order given.

    A finished run is not trained again, an interrupted one is resumed. When a run fails the others go on, and its
    place holds a :class:`RunFailure`. ``on_change`` is called with a run's number and state whenever that changes.

    Raises, before the first run starts, SpecError if two specs are the same or one uses a class that another process
    cannot import, and what ``spec.check()`` does; InterruptedRunError after Ctrl-C or SIGTERM, when every running
    process has saved a checkpoint and ended.
    """
    if min(workers, threads) < 1:
        raise SpecError(f"workers and threads must be at least 1 (got {workers} and {threads})")
    if device not in ("auto", "cpu"):
        choose_device(device)
    with TemporaryDirectory(prefix="unplateau-") as scratch, stop_requests() as stop:
        processes = [
            RunProcess(spec, name, Path(out), Path(scratch) / str(number), threads=threads, device=device)
            for number, (spec, name) in enumerate(zip(specs, names(specs), strict=True))
        ]
        _refuse_hopeless(processes)
        pool = _Pool(processes, on_change)
        try:
            pool.work(workers, stop)
        finally:
            pool.end()
        if pool.unfinished:
            raise InterruptedRunError(pool.farewell(Path(out)))
        return pool.results()


def names(specs: Sequence[RunSpec]) -> list[str]:
    """Strategy and seed of each, with the digest where these are not enough to tell runs apart."""
    short = [f"{spec.strategy.name}, seed {spec.seed}" for spec in specs]
    return [
        name if short.count(name) == 1 else f"{name} ({spec.digest()})" for name, spec in zip(short, specs, strict=True)
    ]


def _refuse_hopeless(processes: Sequence[RunProcess]) -> None:
    """Raises SpecError for what would fail, or not be begun, once others are running. Finished runs need no data."""
    if len({one.path for one in processes}) < len(processes):
        raise SpecError("the same run is asked for twice; a run is told apart by its spec, seed included")
    checked = set()
    for one in processes:
        for _, part in parts_of(one.spec):
            if type(part).__module__ == "__main__":
                raise SpecError(in_script(type(part).__name__))
        parts = tuple(part.digest() for part in (one.spec.task, one.spec.model, one.spec.strategy))
        if parts not in checked and not one.finished:
            one.spec.check()
            checked.add(parts)


class _Pool:
    """The processes of one call, and what was last said about each."""

    def __init__(self, processes: Sequence[RunProcess], on_change: OnChange | None) -> None:
        self.processes, self.on_change = processes, on_change
        self.states = [RunState(one.name, one.path, one.spec.train.steps) for one in processes]
        for number in range(len(self.states)):
            self._report(number)

    def work(self, workers: int, stop: StopRequest) -> None:
        """Starts and watches until all have ended or somebody asks to stop."""
        waiting = [number for number in range(len(self.processes)) if not self._finished_before(number)]
        running: list[int] = []
        while (waiting or running) and not stop:
            while waiting and len(running) < workers:
                running.append(waiting.pop(0))
                self.processes[running[-1]].start()
            time.sleep(LOOK_EVERY)
            for number in list(running):
                if not self._look(number):
                    running.remove(number)

    def end(self) -> None:
        """Asks what still runs to save and end, and waits for it."""
        for one in self.processes:
            one.ask_to_stop()
        for number, one in enumerate(self.processes):
            if one.running:
                one.wait()
                self._look(number)

    @property
    def unfinished(self) -> bool:
        """Was it stopped before every run was done or had failed?"""
        return any(state.state not in ("done", "failed") for state in self.states)

    def results(self) -> list[RunRecord | RunFailure]:
        """One for each process, all of which have ended."""
        return [one.failure() or load_run(one.path) for one in self.processes]

    def farewell(self, out: Path) -> str:
        """What to tell who stopped it."""
        for one in self.processes:
            if failure := one.failure():
                logger.warning("%s: %s", failure.name, failure.message)
        n_done = sum(state.state == "done" for state in self.states)
        return (
            f"{out}: stopped; {n_done} of {len(self.states)} runs are finished, those begun are saved; "
            f"run the same command again to resume"
        )

    def _finished_before(self, number: int) -> bool:
        done = self.processes[number].finished
        if done:
            self._say(number, replace(self._read(number), state="done"))
        return done

    def _look(self, number: int) -> bool:
        """Says what is new; False once the process has ended."""
        one = self.processes[number]
        running = one.running
        state = self._read(number)
        if running:
            self._say(number, replace(state, state="running"))
        else:
            ended: Stage = "stopped" if one.stopped else "failed" if one.failure() else "done"
            self._say(number, replace(state, state=ended))
            for line in one.warnings():
                logger.warning("%s: %s", one.name, line)
        return running

    def _read(self, number: int) -> RunState:
        row = newest_row(self.states[number].path)
        return replace(self.states[number], step=row.get("step", 0), progress=row.get("progress"))

    def _say(self, number: int, state: RunState) -> None:
        if state != self.states[number]:
            self.states[number] = state
            self._report(number)

    def _report(self, number: int) -> None:
        if self.on_change is not None:
            self.on_change(number, self.states[number])
