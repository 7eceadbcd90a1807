"""The state of one run while it is being trained: what it draws, learns from, writes down, saves and goes on from.

Kept apart from who makes the updates, because several runs may make theirs together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unplateau import store
from unplateau.decompose import Decomposable
from unplateau.errors import CheckpointError, DivergedError, InterruptedRunError
from unplateau.files import RowFile, read_rows, write_json
from unplateau.history import History
from unplateau.store import Stage
from unplateau.tasks.base import Task
from unplateau.tasks.mixture import Mixture
from unplateau.tensors import Batch
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
from unplateau.train.describe import describe_run
from unplateau.train.distributed import agreed, lead
from unplateau.train.interrupt import StopRequest
from unplateau.train.observers import Event, Observer, default_observers, due, evaluate
from unplateau.train.parallel import is_sharded, looked_at, share, whole
from unplateau.train.spec import RunSpec
from unplateau.train.step import Losses, build_heads, build_model, flops_spent, step_flops
from unplateau.train.tally import STEPS, Tally
from unplateau.train.updates import Updates

START: Mapping[str, Any] = {"step": 0, "sums": {}, "metrics_bytes": 0, "costs_bytes": 0}
"""What is counted at the start of a run."""
Show = Callable[[int, Stage], None]
"""Shows a step of a run."""


class Training:
    """One run being trained. ``donors``: directories that its grafts are taken from."""

    def __init__(
        self,
        spec: RunSpec,
        path: Path,
        device: torch.device,
        observers: Sequence[Observer] | None,
        donors: Sequence[Path],
        show: Show,
    ) -> None:
        self.spec, self.path, self.device, self.show = spec, path, device, show
        self.draws: list[tuple[int, Task, Batch]] = []  # the newest of each task
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
        self.tally = Tally([term.name for term in self.spec.strategy.loss_terms], self.device, counters["sums"])
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

    def run(self, stop: StopRequest) -> Iterator[None]:
        """From the current step to the last, then the final figures; pauses where an update is due, for its maker."""
        config = self.spec.train
        self.show(self.step, "running")
        if self.row_is_missing:
            self.look()
        while self.step < config.steps:
            yield
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

    def draw(self) -> tuple[Task, Batch]:
        """The batch of this step, and the task that it was sampled for."""
        task = self.spec.strategy.choose(self.step, self.spec.task, self.history, Mixture.of)
        if self.spec.train.steps_per_draw == 1:
            size, seed = self.spec.train.batch_size, self.spec.seed
            return task, task.sample_on(self.device, self.step, batch_size=size, seed=seed)
        number, place = divmod(self.step, self.spec.train.steps_per_draw)
        found = next((draw for draw in self.draws if draw[:2] == (number, task)), None)
        if found is None:
            found = number, task, self.draw_many(task, number)
            self.draws = [*(draw for draw in self.draws if draw[0] == number), found]
        return task, found[2].map(lambda steps: steps[place])

    def draw_many(self, task: Task, number: int) -> Batch:
        """The batches of all steps of a draw, with a dimension for these in front of all others.

        Each has every so-manieth row, so that each has its share of every task of a mixture.
        """
        n_steps = self.spec.train.steps_per_draw
        size, seed = n_steps * self.spec.train.batch_size, self.spec.seed
        rows = task.sample_on(self.device, number, batch_size=size, seed=seed)
        return rows.map(lambda one: one.unflatten(0, (-1, n_steps)).transpose(0, 1).contiguous())

    def take_step(self, losses: Losses) -> None:
        """Changes the weights by the gradients that these losses have left there, unless they have done so."""
        if losses.applied:
            self.tally.count(losses)
        else:
            self.updates.step(self.step)
            self.tally.add(self.step + 1, losses)
        self.step += 1

    def sums(self) -> dict[str, float]:
        """Of the losses since the last row, and the number of steps. Raises DivergedError if one was no number."""
        sums, wrong = self.tally.read()
        if wrong:
            raise self.diverged(*wrong)
        return sums

    def diverged(self, name: str, step: int) -> DivergedError:
        """What to raise where this figure is no number."""
        if not step:
            return DivergedError(f"{self.path}: {name} is NaN or infinite before the first update: see model and data")
        return DivergedError(
            f"{self.path}: {name} became NaN or infinite at step {step}; the last checkpoint is kept; "
            f"a lower train.lr (now {self.spec.train.lr:g}) usually helps"
        )

    def refuse_no_numbers(self, figures: Mapping[str, Any]) -> None:
        """Raises DivergedError if the model, whose last loss was a number, has by its last update come to give none."""
        for name, value in figures.items():
            if isinstance(value, float) and not isfinite(value):
                raise self.diverged(name, self.step)

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
        self.tally.clear()

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
                    figures = observer(event)
                    self.refuse_no_numbers(figures)  # before others, which count on numbers, look at the model
                    row |= figures
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
        self.clock.lap("training")  # the checkpoint before
        with torch.no_grad():
            figures = evaluate(Event(self.step, self.spec, model, self.device), "test", self.spec.train.final_prompts)
        self.refuse_no_numbers(figures)
        self.clock.lap("observers")
        done: dict[str, Any] = {"step": self.step, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        done |= {f"test_{name}": value for name, value in figures.items()}
        done |= {"train_flops": flops_spent(self.spec, self.flops, self.step), **self.clock.read()}
        write_json(self.path / store.DONE, done)
