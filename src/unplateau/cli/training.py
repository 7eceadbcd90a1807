"""Runs one spec in this process and shows how far it is.

What enters: what ``unplateau train`` was given. What leaves: a run directory, and a line that says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from unplateau import store
from unplateau.cli.console import duration
from unplateau.cli.given import given_spec
from unplateau.cli.progress import ProgressDisplay, display
from unplateau.errors import SpecError
from unplateau.store import RunRecord, RunState
from unplateau.train.loop import choose_device, train
from unplateau.train.observers import default_observers


def train_here(
    name: str,
    settings: Sequence[str],
    *,
    seed: int | None,
    out: Path,
    resume: bool,
    device: str,
    threads: int | None,
) -> None:
    """Trains and prints the run directory and its final figures."""
    spec = given_spec(name, settings, seed)
    if threads is not None:
        if threads < 1:
            raise SpecError(f"--threads: must be at least 1 (got {threads})")
        torch.set_num_threads(threads)
    choose_device(device)  # a wrong name is refused before anything is begun
    if resume and (spec.directory(out) / store.DONE).exists():
        print(f"finished before: {summary(store.load_run(spec.directory(out)))}")
        return
    spec.check()
    with display() as show:
        state = RunState(
            f"{spec.recipe}, {spec.strategy.name}, seed {spec.seed}", spec.directory(out), spec.train.steps
        )
        show(0, state)
        observers = (*default_observers(spec), ProgressDisplay(show, state, spec.train.eval_every))
        record = train(spec, out=out, device=device, resume=resume, observers=observers)
    print(f"done: {summary(record)}")


def summary(record: RunRecord) -> str:
    """Where a finished run is and how it ended, on one line."""
    done = record.done or {}
    return (
        f"{record.path}: {done['step']} steps, held-out accuracy {done['test_accuracy']:.2f}, "
        f"progress {done['test_progress']:.2f}, {duration(done['seconds'])} of training"
    )
