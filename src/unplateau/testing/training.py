"""Laws of training: observers change nothing, and an interrupted run ends like one that never was.

What enters: an observer or a spec. What leaves: nothing, or a LawError.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unplateau.errors import InterruptedRunError, SpecError
from unplateau.store import CHECKPOINTS, METRICS, RunRecord
from unplateau.testing.law import demand
from unplateau.train.checkpoint import TENSORS
from unplateau.train.loop import train
from unplateau.train.observers import Event, Observer, default_observers
from unplateau.train.spec import RunSpec


def check_observer(observer: Observer, spec: RunSpec) -> None:
    """The weights at the end are the same with the observer and without, bit for bit."""
    with TemporaryDirectory() as folder:
        without = train(spec, out=Path(folder, "without"), device="cpu", observers=())
        watched = train(spec, out=Path(folder, "with"), device="cpu", observers=(observer,))
        demand(_weights(without) == _weights(watched), observer, "the trajectory is the same with and without it")


def check_resume(spec: RunSpec, *, stop_at: int) -> None:
    """A SIGTERM after ``stop_at`` steps and a resume give the rows and weights of one go, bit for bit (on a CPU).

    ``stop_at`` must be a multiple of ``train.eval_every``. Call it from the main thread, where signals arrive.
    """
    if stop_at % spec.train.eval_every:
        raise SpecError(f"stop_at {stop_at} must be a multiple of train.eval_every {spec.train.eval_every}")
    with TemporaryDirectory() as folder:
        whole = train(spec, out=Path(folder, "whole"), device="cpu")
        parts = Path(folder, "parts")
        with suppress(InterruptedRunError):
            train(spec, out=parts, device="cpu", observers=(*default_observers(spec), _TerminateAt(stop_at)))
            raise AssertionError("the signal did not arrive")
        resumed = train(spec, out=parts, device="cpu")
        same_rows = (whole.path / METRICS).read_bytes() == (resumed.path / METRICS).read_bytes()
        demand(same_rows, spec, "k steps and a resume log the rows of n steps")
        demand(_weights(whole) == _weights(resumed), spec, "k steps and a resume end with the weights of n steps")


@dataclass(frozen=True)
class _TerminateAt:
    every: int

    def __call__(self, event: Event) -> dict[str, Any]:
        if event.step == self.every:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}


def _weights(run: RunRecord) -> bytes:
    """The tensors of the last checkpoint."""
    return (max((run.path / CHECKPOINTS).glob("step-*")) / TENSORS).read_bytes()
