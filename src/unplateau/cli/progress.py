"""Live progress of one or many runs: bars at a terminal, a line at every tenth elsewhere.

What enters: the states of runs, as they change. What leaves: text on standard error, where it is out of the way of
results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from unplateau.cli.console import console, duration
from unplateau.store import RunState, newest_row

if TYPE_CHECKING:
    from unplateau.train.observers import Event

MOST_BARS = 20
"""Runs that are all shown; of more, only those that are running."""


class Display(Protocol):
    """Shows the state of runs, told apart by number."""

    def __call__(self, number: int, state: RunState) -> None:
        """Shows the new state of one run."""


@contextmanager
def display(n_runs: int = 1) -> Iterator[Display]:
    """Bars at a terminal, sparse lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    with Progress(*columns, console=console(stderr=True), refresh_per_second=4) as progress:
        yield Bars(progress, few=n_runs <= MOST_BARS)


class Pace:
    """Steps per second since the first look, whatever was done before it."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def facts(self, state: RunState) -> str:
        """``step 200/2000  progress 0.03  25.1 steps/s  72 s left``, as far as it is known."""
        now = time.perf_counter()
        if self._first is None and state.state == "running" and state.step:
            self._first = (state.step, now)
        facts = [f"step {state.step}/{state.total}"]
        if state.progress is not None:
            facts.append(f"progress {state.progress:.2f}")
        if state.state == "running" and self._first and state.step > self._first[0]:
            speed = (state.step - self._first[0]) / max(now - self._first[1], 1e-9)
            facts += [f"{speed:.1f} steps/s", f"{duration((state.total - state.step) / speed)} left"]
        return "  ".join(facts if state.state in ("running", "done") else [*facts, state.state])


class Bars:
    """One bar for each run."""

    def __init__(self, progress: Progress, *, few: bool) -> None:
        self._progress, self._few = progress, few
        self._bars: dict[int, tuple[TaskID, Pace]] = {}

    def __call__(self, number: int, state: RunState) -> None:
        """Moves the bar."""
        if number not in self._bars:
            task = self._progress.add_task(state.name, total=state.total, facts="", visible=self._few)
            self._bars[number] = (task, Pace())
        task, pace = self._bars[number]
        visible = self._few or state.state in ("running", "failed")
        self._progress.update(task, completed=state.step, facts=pace.facts(state), visible=visible)


class Lines:
    """A line when a run starts, at every tenth of it, and at its end."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[str, int]] = {}
        self._paces: dict[int, Pace] = {}

    def __call__(self, number: int, state: RunState) -> None:
        """Writes a line if there is something new."""
        news = (state.state, 10 * state.step // state.total)
        facts = self._paces.setdefault(number, Pace()).facts(state)
        if state.state == "waiting" or self._said.get(number) == news:
            return
        self._said[number] = news
        print(f"{state.name}: {facts}{' done' if state.state == 'done' else ''}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class ProgressDisplay:
    """The observer that shows a run in this process: it looks when rows are written and adds no column."""

    show: Display
    state: RunState
    every: int

    def __call__(self, event: Event) -> Mapping[str, Any]:
        """Shows the step, and the progress of the newest row, which is the one before."""
        row = newest_row(self.state.path)
        name, path, total = self.state.name, self.state.path, self.state.total
        self.show(0, RunState(name, path, total, "running", event.step, row.get("progress")))
        return {}
