"""The training loop: one plain loop, exact to resume, legible in one sitting.

The trajectory is a pure function of the spec (bit for bit on one CPU type and thread count); observers, interruptions
and kills do not change it.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unplateau import store
from unplateau.decompose import Decomposable
from unplateau.errors import CheckpointError, DivergedError, InterruptedRunError, RunDirectoryError, SpecError
from unplateau.files import RowFile, read_rows, refuse_irregular, write_json
from unplateau.history import History
from unplateau.store import RunRecord, Stage
from unplateau.tasks.mixture import Mixture
from unplateau.train.begin import begun
from unplateau.train.checkpoint import (
    Checkpoint,
    check_optimiser,
    check_progress,
    check_weights,
    newest_checkpoint,
    prune,
    save_checkpoint,
    take_weights,
)
from unplateau.train.clock import CostClock
from unplateau.train.describe import check_description, describe_run, refuse_unfit
from unplateau.train.distributed import (
    agreed,
    is_first,
    joined,
    lead,
    led,
    own_device,
    refuse_uneven,
    together,
)
from unplateau.train.guest import undisturbed
from unplateau.train.interrupt import StopRequest, stop_requests
from unplateau.train.observers import Event, Observer, default_observers, due, evaluate
from unplateau.train.parallel import is_sharded, looked_at, share, whole
from unplateau.train.progress import display, is_watched
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, flops_spent, step_flops
from unplateau.train.tally import STEPS, Tally
from unplateau.train.updates import Updates

START: Mapping[str, Any] = {"step": 0, "sums": {}, "metrics_bytes": 0, "costs_bytes": 0}
"""What is counted at the start of a run."""
DEVICES = ("cpu", "cuda", "mps", "xpu")
"""What computes."""

logger = logging.getLogger(__name__)


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
    with undisturbed(), joined(lambda: choose_device(device)):
        return _train(spec, Path(out), device, observers, resume=resume, progress=progress)


def _train(
    spec: RunSpec,
    out: Path,
    device: str,
    observers: Sequence[Observer] | None,
    *,
    resume: bool,
    progress: bool | None,
) -> RunRecord:
    path, steps = spec.directory(out), spec.train.steps
    donors: list[Path] = []
    if not lead(lambda: store.is_done(path, steps)):
        refuse_uneven(spec.train.batch_size)
        together(spec.check)
        donors = [_donated(graft.donor, out, device, progress=progress) for graft in spec.grafts]
    lead(lambda: _refuse_taken(path, spec, resume=resume))
    with stop_requests() as stop, led(begun(path)):
        if not lead(lambda: _has_ended(path, steps)):
            lead(lambda: _refuse_damaged(path))
            with _shown(spec, path, progress) as show:
                _Training(spec, path, choose_device(device), observers, donors, show).run(stop)
    return lead(lambda: store.load_run(path))


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


def _donated(donor: RunSpec, out: Path, device: str, *, progress: bool | None) -> Path:
    """The directory of the finished run whose weights are taken."""
    path = donor.directory(out)
    if is_first() and not store.is_done(path, donor.train.steps):
        logger.warning("%s: is trained first, for its weights", path)
    return train(donor, out=out, device=device, progress=progress).path


@contextmanager
def _shown(spec: RunSpec, path: Path, progress: bool | None) -> Iterator[Callable[[int, Stage], None]]:
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


class _Training:
    """The state of one run while it is being trained."""

    def __init__(
        self,
        spec: RunSpec,
        path: Path,
        device: torch.device,
        observers: Sequence[Observer] | None,
        donors: Sequence[Path],
        show: Callable[[int, Stage], None],
    ) -> None:
        self.spec, self.path, self.device, self.show = spec, path, device, show
        self.digest = spec.digest()  # once: the source of one's own classes may be edited meanwhile
        self.observers = default_observers(spec) if observers is None else tuple(observers)
        home = torch.device("cpu") if is_sharded(spec) else device
        self.model, self.heads = build_model(spec, home), build_heads(spec, home)
        self.updates = Updates(spec.train, self.model, self.heads)
        self.flops = lead(lambda: step_flops(spec, self.model, self.heads, home))
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        lead(lambda: describe_run(path, spec, device, n_parameters=n_parameters, flops=self.flops))
        self.clock = CostClock(device)
        for graft, donor in zip(spec.grafts, donors, strict=True):
            lead(partial(take_weights, self.model, donor, graft.modules))
        self.load()
        self.losses, self.updates = share(spec, self.model, self.heads, self.updates, device)

    def load(self) -> None:
        """Takes up the newest whole checkpoint and cuts the row files back to it, or starts at step 0."""
        checkpoint, rows = lead(self.take_up)
        counters: Mapping[str, Any] = checkpoint.counters if checkpoint else START
        self.history = History(rows)
        self.step: int = counters["step"]
        self.row_is_missing: bool = counters.get("row_is_missing", self.step == 0)  # of this step, see extend
        self.tally = self.new_tally(counters["sums"])
        if checkpoint:
            self.clock.add(counters["costs"])
            self.model.load_state_dict(checkpoint.under("model/"))
            self.heads.load_state_dict(checkpoint.under("heads/"))
            self.updates.load(checkpoint.under("optimiser/"))

    def take_up(self) -> tuple[Checkpoint | None, list[dict[str, Any]]]:
        """The newest whole checkpoint, if there is one, and the rows up to it; the row files then end there."""
        checkpoint = newest_checkpoint(
            self.path,
            self.digest,
            check_progress(self.path, self.spec.train.steps),
            check_weights("model", self.model.state_dict()),
            check_weights("heads", self.heads.state_dict()),
            check_optimiser(self.updates),
        )
        if checkpoint is None:
            self.refuse_lost_checkpoints()
        counters = checkpoint.counters if checkpoint else START
        self.metrics = RowFile(self.path / store.METRICS, keep_bytes=counters["metrics_bytes"])
        self.costs = RowFile(self.path / store.COSTS, keep_bytes=counters["costs_bytes"])
        prune(self.path, counters["step"])
        return checkpoint, read_rows(self.path / store.METRICS)

    def refuse_lost_checkpoints(self) -> None:
        """Raises CheckpointError rather than starting over where rows say that there was a checkpoint."""
        last = store.newest_row(self.path).get("step", 0)
        if last > self.spec.train.checkpoint_every:
            raise CheckpointError(
                f"{self.path}: has rows up to step {last} and no checkpoint any more; remove it to start over"
            )

    def run(self, stop: StopRequest) -> None:
        """From the current step to the last, then the final figures."""
        config = self.spec.train
        self.show(self.step, "running")
        if self.row_is_missing:
            self.look()
        while self.step < config.steps:
            self.update()
            before = lead(self.logged_so_far) if self.step == config.steps else None
            self.look()
            stopping = agreed(bool(stop))
            if self.step % config.checkpoint_every == 0 or self.step == config.steps or stopping:
                self.save(before)
            if stopping and self.step < config.steps:
                raise InterruptedRunError(
                    f"{self.path}: stopped after step {self.step} of {config.steps}, saved; run the same command again "
                    f"to resume"
                )
        self.finish()

    def update(self) -> None:
        """One step of the optimiser on one batch."""
        task = self.spec.strategy.choose(self.step, self.spec.task, self.history, Mixture.of)
        batch = task.sample(self.step, batch_size=self.spec.train.batch_size, seed=self.spec.seed).to(self.device)
        losses = self.losses(task, batch, self.step)
        self.updates.zero_grad()
        losses.total.backward()
        self.updates.step(self.step)
        self.step += 1
        self.tally.add(self.step, losses)

    def new_tally(self, sums: Mapping[str, float]) -> Tally:
        """Of the losses since the last row."""
        return Tally([term.name for term in self.spec.strategy.loss_terms], self.device, sums)

    def sums(self) -> dict[str, float]:
        """Of the losses since the last row, and the number of steps. Raises DivergedError if one was no number."""
        sums, wrong = self.tally.read()
        if wrong:
            raise DivergedError(
                f"{self.path}: {wrong[0]} became NaN or infinite at step {wrong[1]}; the last checkpoint is kept; "
                f"a lower train.lr (now {self.spec.train.lr:g}) usually helps"
            )
        return sums

    def look(self) -> None:
        """Logs a row if one is due."""
        if due(self.observers, self.step, self.spec.train.steps) or self.step % self.spec.train.eval_every == 0:
            self.log()
            self.show(self.step, "running")

    def logged_so_far(self) -> dict[str, Any]:
        """Where the rows end, and what the next one will be made of."""
        logged: dict[str, Any] = {"sums": self.sums()}
        for name, file in (("metrics", self.metrics), ("costs", self.costs)):
            logged |= {f"{name}_bytes": file.size(), f"{name}_sha256": file.sha256()}
        return logged

    def log(self) -> None:
        """Appends a row: the loop's own columns and those of the observers that are due."""
        self.clock.lap("training")
        looking = due(self.observers, self.step, self.spec.train.steps)
        with self.updates.averaged():
            model = looked_at(self.spec, self.model, self.device) if looking else None
        row = lead(lambda: self.row(looking, model))
        self.history = self.history.extended(row)
        self.tally = self.new_tally({})

    def row(self, looking: Sequence[Observer], model: Decomposable | None) -> dict[str, Any]:
        """What is appended, made and written by one process; ``model``: what the observers look at."""
        sums = self.sums()
        rows, steps = self.step * self.spec.train.batch_size, sums.pop(STEPS, 0)
        row: dict[str, Any] = {"step": self.step, **{name: total / steps for name, total in sums.items()}}
        row |= {"rows": rows, "tokens": rows * self.spec.task.shape.layout.n_positions}
        row["train_flops"] = flops_spent(self.spec, self.flops, self.step)
        if model is not None:
            event = Event(self.step, self.spec, model, self.device)
            with torch.no_grad():
                for observer in looking:
                    row |= observer(event)
        self.clock.lap("observers")
        self.metrics.append(row)
        self.costs.append({"step": self.step, **self.clock.read()})
        return row

    def save(self, before_row: Mapping[str, Any] | None) -> None:
        """Writes a checkpoint. ``before_row``: how it was before the last row, which a longer run may not have."""
        self.clock.lap("training")
        tensors = {f"optimiser/{name}": tensor for name, tensor in self.updates.tensors().items()}
        with self.updates.averaged():  # what is kept as the model is what it is judged by
            tensors |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
            tensors |= {f"heads/{name}": tensor for name, tensor in self.heads.state_dict().items()}
            tensors = whole(self.spec, tensors)
            lead(lambda: self.write(tensors, before_row))

    def write(self, tensors: Mapping[str, Tensor], before_row: Mapping[str, Any] | None) -> None:
        """The checkpoint of these tensors."""
        counters = {"step": self.step, **self.logged_so_far(), "costs": self.clock.read()}
        if before_row is not None:
            counters["before_row"] = before_row
        self.metrics.flush()  # a checkpoint never counts on rows that a power cut can take away
        self.costs.flush()
        save_checkpoint(self.path, self.digest, Checkpoint(tensors, counters))

    def finish(self) -> None:
        """The end of the run."""
        with self.updates.averaged():
            model = looked_at(self.spec, self.model, self.device)
        lead(lambda: self.end(model))
        self.show(self.step, "done")

    def end(self, model: Decomposable | None) -> None:
        """Final figures on many held-out prompts; ``DONE.json`` is the last file to appear."""
        assert model is not None
        costs = self.clock.read()
        with torch.no_grad():
            figures = evaluate(Event(self.step, self.spec, model, self.device), "test", self.spec.train.final_prompts)
        done: dict[str, Any] = {"step": self.step, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        done |= {f"test_{name}": value for name, value in figures.items()}
        done |= {"train_flops": flops_spent(self.spec, self.flops, self.step), **costs}
        write_json(self.path / store.DONE, done)
