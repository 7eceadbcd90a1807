"""The training loop: one plain loop, exact to resume, legible in one sitting.

The trajectory is a pure function of the spec (bit for bit on one CPU type and thread count); observers, interruptions
and kills do not change it.
"""

import copy
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unplateau import store
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
from unplateau.train.guest import undisturbed
from unplateau.train.interrupt import StopRequest, stop_requests
from unplateau.train.observers import Event, Observer, default_observers, due, evaluate
from unplateau.train.progress import display, is_watched
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, compute_losses, flops_spent, step_flops
from unplateau.train.tally import STEPS, Tally
from unplateau.train.updates import Updates

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

    The caller's process is left as it was: random states, modes, default dtype, signal handlers; and none of these
    changes what is trained (see ``unplateau.train.guest``).

    Raises what ``spec.check()`` does, unless the run is finished; RunLockedError if another process trains here,
    RunDirectoryError if the directory belongs to another spec or a file in it is damaged, CheckpointError if no
    checkpoint can be used, DivergedError on a NaN or infinite loss (the last checkpoint is kept), InterruptedRunError
    after Ctrl-C or SIGTERM (a checkpoint was saved), StorageError if a write is refused.
    """
    with undisturbed():
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
    if not store.is_done(path, steps):
        spec.check()
        donors = [_donated(graft.donor, out, device, progress=progress) for graft in spec.grafts]
    refuse_unfit(path, spec)
    if not resume and any((path / name).exists() for name in (store.SPEC, store.METRICS)):
        raise RunDirectoryError(f"{path}: already holds a run; resume it or choose another --out")
    with begun(path), stop_requests() as stop:
        if not _has_ended(path, steps):
            _refuse_damaged(path)
            with _shown(spec, path, progress) as show:
                _Training(spec, path, choose_device(device), observers, donors, show).run(stop)
    return store.load_run(path)


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
    if not store.is_done(path, donor.train.steps):
        logger.warning("%s: is trained first, for its weights", path)
    return train(donor, out=out, device=device, progress=progress).path


@contextmanager
def _shown(spec: RunSpec, path: Path, progress: bool | None) -> Iterator[Callable[[int, Stage], None]]:
    """Shows a step of the run, with the progress of its newest row, to who looks."""
    if not (is_watched() if progress is None else progress):
        yield lambda *_: None
        return
    name = f"{spec.recipe}, {spec.strategy.name}, seed {spec.seed}"
    with display() as showing:

        def show(step: int, stage: Stage) -> None:
            newest = store.newest_row(path).get("progress")
            showing(0, store.RunState(name, path, spec.train.steps, stage, step, newest))

        yield show


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU if there is one. Raises SpecError for a device that is unknown or not there."""
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
        self.model, self.heads = build_model(spec, device), build_heads(spec, device)
        self.updates = Updates(spec.train, self.model, self.heads)
        self.flops = step_flops(spec, self.model, self.heads, device)
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        describe_run(path, spec, device, n_parameters=n_parameters, flops=self.flops)
        self.clock = CostClock(device)
        for graft, donor in zip(spec.grafts, donors, strict=True):
            take_weights(self.model, donor, graft.modules)
        self.load()

    def load(self) -> None:
        """Takes up the newest whole checkpoint and cuts the row files back to it, or starts at step 0."""
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
        start = {"step": 0, "sums": {}, "metrics_bytes": 0, "costs_bytes": 0}
        counters: Mapping[str, Any] = checkpoint.counters if checkpoint else start
        self.metrics = RowFile(self.path / store.METRICS, keep_bytes=counters["metrics_bytes"])
        self.costs = RowFile(self.path / store.COSTS, keep_bytes=counters["costs_bytes"])
        self.history = History(read_rows(self.path / store.METRICS))
        self.step: int = counters["step"]
        self.row_is_missing: bool = counters.get("row_is_missing", self.step == 0)  # of this step, see extend
        self.tally = self.new_tally(counters["sums"])
        if checkpoint:
            self.clock.add(counters["costs"])
            self.model.load_state_dict(checkpoint.under("model/"))
            self.heads.load_state_dict(checkpoint.under("heads/"))
            self.updates.load(checkpoint.under("optimiser/"))
        prune(self.path, self.step)

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
            before = self.logged_so_far() if self.step == config.steps else None
            self.look()
            if self.step % config.checkpoint_every == 0 or self.step == config.steps or stop:
                self.save(before)
            if stop and self.step < config.steps:
                raise InterruptedRunError(
                    f"{self.path}: stopped after step {self.step} of {config.steps}, saved; run the same command again "
                    f"to resume"
                )
        self.finish()

    def update(self) -> None:
        """One step of the optimiser on one batch."""
        task = self.spec.strategy.choose(self.step, self.spec.task, self.history, Mixture.of)
        batch = task.sample(self.step, batch_size=self.spec.train.batch_size, seed=self.spec.seed).to(self.device)
        losses = compute_losses(self.spec, self.model, self.heads, task, batch, self.step)
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
        sums = self.sums()
        rows, steps = self.step * self.spec.train.batch_size, sums.pop(STEPS, 0)
        row: dict[str, Any] = {"step": self.step, **{name: total / steps for name, total in sums.items()}}
        row |= {"rows": rows, "tokens": rows * self.spec.task.shape.layout.n_positions}
        row["train_flops"] = flops_spent(self.spec, self.flops, self.step)
        if looking := due(self.observers, self.step, self.spec.train.steps):
            with self.updates.averaged():
                event = Event(self.step, self.spec, copy.deepcopy(self.model), self.device)
            with torch.no_grad():
                for observer in looking:
                    row |= observer(event)
        self.clock.lap("observers")
        self.history = self.history.extended(row)
        self.metrics.append(row)
        self.costs.append({"step": self.step, **self.clock.read()})
        self.tally = self.new_tally({})

    def save(self, before_row: Mapping[str, Any] | None) -> None:
        """Writes a checkpoint. ``before_row``: how it was before the last row, which a longer run may not have."""
        self.clock.lap("training")
        counters = {"step": self.step, **self.logged_so_far(), "costs": self.clock.read()}
        if before_row is not None:
            counters["before_row"] = before_row
        self.metrics.flush()  # a checkpoint never counts on rows that a power cut can take away
        self.costs.flush()
        tensors = {f"optimiser/{name}": tensor for name, tensor in self.updates.tensors().items()}
        with self.updates.averaged():  # what is kept as the model is what it is judged by
            tensors |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
            tensors |= {f"heads/{name}": tensor for name, tensor in self.heads.state_dict().items()}
            save_checkpoint(self.path, self.digest, Checkpoint(tensors, counters))

    def finish(self) -> None:
        """Final figures on many held-out prompts; ``DONE.json`` is the last file to appear."""
        costs = self.clock.read()
        with torch.no_grad(), self.updates.averaged():
            event = Event(self.step, self.spec, self.model, self.device)
            figures = evaluate(event, "test", self.spec.train.final_prompts)
        done: dict[str, Any] = {"step": self.step, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        done |= {f"test_{name}": value for name, value in figures.items()}
        done |= {"train_flops": flops_spent(self.spec, self.flops, self.step), **costs}
        write_json(self.path / store.DONE, done)
        self.show(self.step, "done")
