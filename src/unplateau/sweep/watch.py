"""How far a run is, read from its directory while another process writes it.

What enters: the path of a run directory. What leaves: its newest step and progress; no torch, no lock.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unplateau import store

TAIL = 64 * 1024
"""Bytes read from the end of a row file: many rows, of which the last complete one is wanted."""

Stage = Literal["waiting", "running", "stopped", "failed", "done"]


@dataclass(frozen=True)
class RunState:
    """Where one run of many is. ``progress`` is None before the first row."""

    name: str
    path: Path
    total: int
    state: Stage = "waiting"
    step: int = 0
    progress: float | None = None


def newest_row(run: Path) -> dict[str, Any]:
    """The last complete row of ``metrics.jsonl``; empty if there is none yet."""
    try:
        with (run / store.METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is unfinished
        row = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def is_running(run: Path) -> bool:
    """Does a process train in this run directory now? Tried with a shared lock, which no other reader is kept by."""
    try:
        with (run / store.LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
