"""What the commands write: tables, numbers in words, and progress on standard error, where it is out of the way.

No colours in a pipe or under ``NO_COLOR``. Rich is imported where it is used, so that help needs none of it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from unplateau.store import RunState
    from unplateau.train.observers import Event

Display = Callable[[int, "RunState"], None]
"""Shows the new state of one run, of several that are told apart by number."""


def console(*, stderr: bool = False) -> Console:
    """A console that takes text literally: names such as ``mixed[fraction=0.25]`` are no markup."""
    from rich.console import Console  # noqa: PLC0415

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 240  # a table in a pipe is read by programs and should not be folded
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; columns of numbers are aligned to the right, but for the first."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    cells = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = index > 0 and all(_is_number(row[index]) for row in cells)
        table.add_column(name, justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*row)
    console().print(table)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"|-|[<>]?\s*-?[\d.,]+(e[+-]?\d+)?", cell.strip()) is not None


def print_json(value: Any) -> None:
    """JSON on standard output, for programs."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Lines of ``name  value``, aligned."""
    pairs = list(facts)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {value}".rstrip())


def number(value: float | None, digits: int = 2) -> str:
    """``0.87``; a dash where there is no value."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no minus zero


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: float) -> str:
    """``1.5 GB`` (powers of ten)."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def one_line(text: str) -> str:
    """``text`` with its line breaks and runs of spaces closed up."""
    return " ".join(text.split())


@contextmanager
def display(n_runs: int = 1) -> Iterator[Display]:
    """Bars at a terminal, sparse lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    with Progress(*columns, console=console(stderr=True), refresh_per_second=4) as progress:
        yield Bars(progress, few=n_runs <= 20)


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
    """One bar for each run; of more than a few, only for those that are running."""

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
        from unplateau.store import newest_row  # noqa: PLC0415 (numpy)

        progress = newest_row(self.state.path).get("progress")
        self.show(0, replace(self.state, state="running", step=event.step, progress=progress))
        return {}
