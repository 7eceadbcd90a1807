"""The training loop: one plain loop, exact to resume, legible in one sitting.

The trajectory is a pure function of the spec (bit for bit on one CPU type and thread count); observers, interruptions
and kills do not change it.
"""

import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import torch

from unplateau import store
from unplateau.errors import InterruptedRunError, RunDirectoryError, RunLockedError, SpecError
from unplateau.files import refuse_irregular
from unplateau.store import RunRecord, Stage
from unplateau.train.begin import begun
from unplateau.train.describe import check_description, refuse_unfit
from unplateau.train.distributed import (
    is_first,
    joined,
    lead,
    led,
    own_device,
    refuse_recorded,
    refuse_uneven,
    together,
)
from unplateau.train.guest import undisturbed
from unplateau.train.interrupt import StopRequest, stop_requests
from unplateau.train.observers import Observer
from unplateau.train.progress import display, is_watched
from unplateau.train.spec import RunSpec
from unplateau.train.steps import Steps
from unplateau.train.training import Show, Training

DEVICES = ("cpu", "cuda", "mps", "xpu")
"""What computes."""

logger = logging.getLogger(__name__)
DONOR_EVERY = 1.0
"""Seconds between two looks at a run that another process trains, and whose weights are waited for."""


def train(
    spec: RunSpec,
    *,
    out: str | Path,
    device: str = "auto",
    observers: Sequence[Observer] | None = None,
    resume: bool = True,
    progress: bool | None = None,
) -> RunRecord:
    """Trains, or goes on training, or returns the finished run of this spec.

    ``out``: folder that run directories are made in. ``device``: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``.
    ``observers``: what to record; None for the default ones, ``(*default_observers(spec), Mine())`` for one of your own
    as well. ``resume=False`` refuses a directory that has a run. ``progress``: whether to show how far it is, as a bar
    in terminals and notebooks; None does so where a person looks.

    Where torchrun has started several processes, all of them call this, with the same arguments, and train one run
    together; what it returns is the same in all.

    The caller's process is left as it was: random states, modes, default dtype, signal handlers; and none of these
    changes what is trained (see ``unplateau.train.guest``).

    Raises what ``spec.check()`` does, unless the run is finished; RunLockedError if another process trains here,
    RunDirectoryError if the directory belongs to another spec or a file in it is damaged, CheckpointError if no
    checkpoint can be used, DivergedError on a NaN or infinite loss (the last checkpoint is kept), InterruptedRunError
    after Ctrl-C or SIGTERM (a checkpoint was saved), StorageError if a write is refused, LostProcessError if another
    process of the run has ended.
    """
    out = Path(out)
    with (
        undisturbed(),
        joined(lambda: choose_device(device)),
        closing(begin(spec, out, device, observers, resume=resume, progress=progress)) as run,
    ):
        steps: Steps | None = None
        for training in run:
            steps = steps or Steps([training])
            steps.update()
        return lead(lambda: store.load_run(spec.directory(out)))


def begin(
    spec: RunSpec,
    out: Path,
    device: str,
    observers: Sequence[Observer] | None = None,
    *,
    resume: bool = True,
    progress: bool | None = None,
    show: Show | None = None,
    stop: StopRequest | None = None,
) -> Generator[Training]:
    """Begins this run, or goes on with it, to its end; pauses where an update is due, which the caller makes.

    Holds the run directory meanwhile. ``show``: what shows its steps, None for a display of its own; ``stop``: what
    asks it to stop, None for Ctrl-C and SIGTERM. The rest is as in :func:`train`.
    """
    path, steps = spec.directory(out), spec.train.steps
    donors: list[Path] = []
    if not lead(lambda: store.is_done(path, steps)):
        refuse_uneven(spec.train.batch_size)
        refuse_recorded(spec.train.execution)
        together(spec.check)
        donors = [_donated(graft.donor, out, device, progress=progress, stop=stop) for graft in spec.grafts]
    lead(lambda: _refuse_taken(path, spec, resume=resume))
    with stop_requests() if stop is None else nullcontext(stop) as asked, led(begun(path)):
        if not lead(lambda: _has_ended(path, steps)):
            lead(lambda: _refuse_damaged(path))
            with _shown(spec, path, progress) if show is None else nullcontext(show) as showing:
                training = Training(spec, path, choose_device(device), observers, donors, showing)
                for _ in training.run(asked):
                    yield training


def _refuse_taken(path: Path, spec: RunSpec, *, resume: bool) -> None:
    """Raises RunDirectoryError where another run is, or this one and it is not to be resumed."""
    refuse_unfit(path, spec)
    if not resume and any((path / name).exists() for name in (store.SPEC, store.METRICS)):
        raise RunDirectoryError(f"{path}: already holds a run; resume it or choose another --out")


def _has_ended(path: Path, steps: int) -> bool:
    """Is there nothing to do? Final figures that are damaged are made again, with a warning."""
    try:
        return store.read_done(path, steps) is not None
    except RunDirectoryError as error:
        refuse_irregular(path / store.DONE)
        logger.warning("%s; the end of the run is made again", error)
        return False


def _refuse_damaged(path: Path) -> None:
    """Raises RunDirectoryError or OutputError, before anything is touched, where training could not go on."""
    for name in (store.METRICS, store.COSTS, store.DONE):
        refuse_irregular(path / name)
    if os.path.lexists(path / store.CHECKPOINTS) and not (path / store.CHECKPOINTS).is_dir():
        raise RunDirectoryError(f"{path / store.CHECKPOINTS}: is no folder; remove it")
    check_description(path)


def _donated(donor: RunSpec, out: Path, device: str, *, progress: bool | None, stop: StopRequest | None) -> Path:
    """The directory of the finished run whose weights are taken; waits where another process trains it."""
    path = donor.directory(out)
    if is_first() and not store.is_done(path, donor.train.steps):
        logger.warning("%s: is trained first, for its weights", path)
    while True:
        try:
            return train(donor, out=out, device=device, progress=progress).path
        except RunLockedError:
            if stop:
                raise InterruptedRunError(
                    f"{path}: stopped before the run was finished whose weights it takes"
                ) from None
            time.sleep(DONOR_EVERY)


@contextmanager
def _shown(spec: RunSpec, path: Path, progress: bool | None) -> Iterator[Show]:
    """Shows a step of the run, with the progress of its newest row, to who looks."""
    if not is_first() or not (is_watched() if progress is None else progress):
        yield lambda *_: None
        return
    name = f"{spec.recipe}, {spec.strategy.name}, seed {spec.seed}"
    with display() as showing:

        def show(step: int, stage: Stage) -> None:
            newest = store.newest_row(path).get("progress")
            showing(0, store.RunState(name, path, spec.train.steps, stage, step, newest))

        yield show


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU if there is one; each of several processes has a GPU of its own.

    Raises SpecError for a device that is unknown or not there.
    """
    name = own_device(name, torch.cuda.device_count())
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (kind == "cpu" and number):
        raise SpecError(f"device '{name}' cannot be used here (there is {', '.join(DEVICES)}); try auto or cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add(1).item()
    except Exception as error:  # of many classes, as many as there are makers of devices
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise SpecError(f"device '{name}' cannot be used here ({reason}); try auto or cpu") from error
    return device
