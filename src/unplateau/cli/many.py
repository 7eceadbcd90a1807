"""Runs many specs with live progress and tells which failed.

What enters: specs. What leaves: the records of those that finished, and the exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from unplateau.cli.failures import one_line
from unplateau.cli.progress import display
from unplateau.store import RunRecord
from unplateau.sweep.local import run_many
from unplateau.sweep.process import RunFailure
from unplateau.train.spec import RunSpec


def run_all(
    specs: Sequence[RunSpec], *, out: Path, workers: int, threads: int, device: str
) -> tuple[list[RunRecord], int]:
    """The finished runs, and 1 if any failed: each is named on standard error, after the progress."""
    with display(len(specs)) as show:
        results = run_many(specs, out=out, workers=workers, threads=threads, device=device, on_change=show)
    failures = [one for one in results if isinstance(one, RunFailure)]
    for failure in failures:
        print(f"unplateau: {failure.name}: {one_line(failure.message)}", file=sys.stderr)
    if failures:
        print(f"unplateau: {len(failures)} of {len(results)} runs failed", file=sys.stderr)
    return [one for one in results if isinstance(one, RunRecord)], 1 if failures else 0
