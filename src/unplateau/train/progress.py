"""How far runs are, for a person who looks: bars at a terminal or in a notebook, sparse lines elsewhere.

All of it goes to standard error, where it is out of the way; rich and IPython are imported where they are used.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unplateau.terminal import one_line, unguarded

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from unplateau.store import RunState

Display = Callable[[int, "RunState"], None]
"""Shows the new state of one run, of several that are told apart by number."""


def is_watched() -> bool:
    """Whether a person looks: at a terminal, or in a notebook."""
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether this process shows what it makes in a notebook. IPython is asked only where it runs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def display(n_runs: int = 1) -> Iterator[Display]:
    """Bars at a terminal or in a notebook, sparse lines elsewhere."""
    if in_notebook():
        yield Cells()
        return
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    console = Console(file=unguarded(sys.stderr), markup=False, emoji=False, highlight=False)
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield Bars(progress, few=n_runs <= 20)


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Pace:
    """Steps per second since the first look, whatever was done before it."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def facts(self, state: RunState) -> str:
        """``step 200/2000  progress 0.03  25.1 steps/s  72 s left``, as far as it is known."""
        now = time.perf_counter()
        if self._first is None and state.state == "running" and state.step:
            self._first = (state.step, now)
        facts = [state.words or f"step {state.step}/{state.total}"]
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
            task = self._progress.add_task(one_line(state.name), total=state.total, facts="", visible=self._few)
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
        sys.stderr.write(
            f"{one_line(state.name)}: {facts}{' done' if state.state == 'done' and not state.words else ''}\n"
        )
        sys.stderr.flush()


class Cells:
    """One bar for each run below the cell of a notebook, whole in the file that is saved of it."""

    def __init__(self) -> None:
        self._bars: dict[int, tuple[Any, Pace]] = {}

    def __call__(self, number: int, state: RunState) -> None:
        """Draws the bar, or draws it again."""
        from IPython.display import HTML, display  # noqa: PLC0415

        _, pace = self._bars.get(number, (None, Pace()))
        drawn = HTML(bar_html(state, pace.facts(state)))
        if number in self._bars:
            self._bars[number][0].update(drawn)
        else:
            self._bars[number] = (display(drawn, display_id=True), pace)


def bar_html(state: RunState, facts: str) -> str:
    """A run's bar with its name before and its facts behind it."""
    bar = f'<progress value="{state.step}" max="{state.total}" style="vertical-align: middle"></progress>'
    words = [html.escape(words) for words in (state.name, f"{facts}{' done' if state.state == 'done' else ''}")]
    return f'<div style="font-variant-numeric: tabular-nums">{words[0]} {bar} {words[1]}</div>'
