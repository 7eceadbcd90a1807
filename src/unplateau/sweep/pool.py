"""Starts the runs of one call, so many at a time, and watches them until all have ended."""

import logging
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path

from unplateau.errors import EngineError
from unplateau.store import RunState, Stage, is_done, newest_row
from unplateau.sweep.plan import farewell
from unplateau.sweep.process import GRACE, RunProcess
from unplateau.train.interrupt import StopRequest
from unplateau.train.progress import Display

LOOK_EVERY = 0.2
"""Seconds between two looks at the processes and their directories."""
WHOLE = -1
"""The number under which all runs together are shown."""
logger = logging.getLogger(__name__)


class Pool:
    """What was last said about each run of one call, and the processes of those that were begun."""

    def __init__(
        self,
        states: Sequence[RunState],
        out: Path,
        start: Callable[[int], RunProcess],
        show: Display,
        ended: Callable[[RunState], object],
        after: Sequence[Set[int]],
    ) -> None:
        """``after``: of each run the others that must have ended before it begins."""
        self.states, self.out, self.start, self.show, self.ended = list(states), out, start, show, ended
        self.after = after
        self.processes: dict[int, RunProcess] = {}
        self._whole: RunState | None = None
        self._say_whole()
        for number, state in enumerate(self.states):
            self.show(number, state)

    def work(self, workers: int, stop: StopRequest) -> None:
        """Starts and watches until all have ended or somebody asks to stop.

        What a cluster refuses is asked for again when another run has ended. Raises EngineError if none is going on.
        """
        waiting: list[int] = []
        running: list[int] = []
        for number, state in enumerate(self.states):
            done = is_done(state.path, state.total)
            self._say(number, "done" if done else "waiting")
            if not done:
                waiting.append(number)
        self._say_whole()
        room = workers
        while (waiting or running) and not stop:
            room = self._begin(waiting, running, room)
            time.sleep(LOOK_EVERY)
            n_before = len(running)
            running = [number for number in running if self._look(number)]
            room = room if len(running) == n_before else workers
            self._say_whole()

    def _begin(self, waiting: list[int], running: list[int], room: int) -> int:
        """Starts what there is room for, and returns the room: what is taken, if a cluster refuses more."""
        for number in self._next(waiting, running, room - len(running)):
            try:
                self.processes[number] = self.start(number)
            except EngineError as error:
                if not running:
                    raise
                logger.warning("%s: %s; it is asked for again when a run has ended", self.states[number].name, error)
                return len(running)
            waiting.remove(number)
            running.append(number)
        return room

    def _next(self, waiting: Sequence[int], running: Sequence[int], free: int) -> list[int]:
        """At most so many that need not wait for others."""
        if not free:
            return []
        going = {*waiting, *running}
        return [*islice((number for number in waiting if going.isdisjoint(self.after[number])), free)]

    def end(self) -> None:
        """Asks what still runs to save and end, and waits for it, all in all no longer than for one."""
        for one in self.processes.values():
            one.ask_to_stop()
        deadline = time.monotonic() + GRACE
        for number, one in self.processes.items():
            if one.running:
                one.wait(max(0.0, deadline - time.monotonic()))
                self._look(number)

    def farewell(self) -> str:
        """What to tell who stopped it."""
        for one in self.processes.values():
            if failure := one.failure():
                logger.warning("%s: %s", failure.name, failure.message)
        n_done = sum(state.state == "done" for state in self.states)
        return farewell(self.out, n_done, len(self.states))

    def _look(self, number: int) -> bool:
        """Says what is new; False once the process has ended."""
        one = self.processes[number]
        if one.running:
            self._say(number, "running")
            return True
        self._say(number, "stopped" if one.stopped else "failed" if one.failure() else "done")
        for line in one.warnings():
            logger.warning("%s: %s", self.states[number].name, line)
        if self.states[number].state == "done":
            self.ended(self.states[number])
        return False

    def _say(self, number: int, stage: Stage) -> None:
        """Reads how far the run is, and reports what is new."""
        before = self.states[number]
        row = newest_row(before.path)
        state = replace(before, state=stage, step=row.get("step", 0), progress=row.get("progress"))
        if state != before:
            self.states[number] = state
            self.show(number, state)

    def _say_whole(self) -> None:
        """Of all runs together, as one whose steps are theirs; what a failed one has not done is not to come."""
        if len(self.states) < 2:
            return
        going = [state for state in self.states if state.state != "failed"]
        step, total = sum(state.step for state in going), max(1, sum(state.total for state in going))
        n_done, n_failed = (sum(state.state == stage for state in self.states) for stage in ("done", "failed"))
        ended = n_done + n_failed == len(self.states)
        stage: Stage = "waiting" if self._whole is None else "done" if ended else "running"
        share = 100 if ended else min(99, 100 * step // total)
        words = f"{share} %  {n_done} of {len(self.states)} done"
        words += f", {n_failed} failed" if n_failed else ""
        whole = RunState("all runs", self.out, total, stage, step, words=words)
        if whole != self._whole:
            self._whole = whole
            self.show(WHOLE, whole)
