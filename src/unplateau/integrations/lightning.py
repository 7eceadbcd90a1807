"""Scores, plateaus and curricula for Lightning; loss terms are one line of ``training_step``.

A module has ``self.helper = TokenStrategy(self.model, ...)`` and its ``training_step`` returns
``loss + self.helper(batch)``: the heads are then saved, moved and optimised with the module.
"""

# ruff: noqa: ARG002 (the arguments of callbacks are not ours to choose)
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from unplateau.errors import SpecError, missing_extra
from unplateau.integrations.datasets import CurriculumDataset, Rows
from unplateau.integrations.watch import Measurable, Recorder
from unplateau.strategies.strategy import Strategy

try:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
except ImportError as error:
    raise missing_extra("this needs lightning", "lightning") from error

logger = logging.getLogger(__name__)


class UnplateauCallback(Recorder, Callback):
    """Records the training loss, scores and plateaus in ``metrics.jsonl``, every ``log_every`` updates.

    The other arguments are those of :class:`~unplateau.integrations.watch.Recorder`; the model is the LightningModule,
    the folder the Trainer's ``default_root_dir``. The loss of a row is that of the last micro-batch before it, as
    ``training_step`` returned it. Only the main process writes.
    """

    def __init__(
        self,
        scores: Measurable | Callable[[Any], Measurable] | None = None,
        *,
        every: int = 100,
        log_every: int = 10,
        file: str | Path | None = None,
    ) -> None:
        super().__init__(scores, every=every, file=file)
        self.log_every, self._recorded = log_every, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file; a first look before the first step."""
        self._recorded = trainer.global_step  # the first micro-batches belong to the next step
        if trainer.is_global_zero:
            self.open(trainer.default_root_dir, trainer.global_step, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A row where one is due."""
        step = trainer.global_step
        if self.watch is None or step == self._recorded or step % self.log_every:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        self.watch.record(step, loss=float(loss) if isinstance(loss, Tensor) else None)
        self._recorded = step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the plateaus."""
        for plateau in self.plateaus():
            logger.info("loss: %s", plateau)


class CurriculumDataModule(LightningDataModule):
    """Training batches as the strategy's curricula say; the Trainer needs ``max_steps``, since the stream is endless.

    ``batch_size``: rows of a micro-batch, as for a DataLoader. ``collate``: makes a batch of rows; None for PyTorch's
    default. Training that is resumed goes on at the row where it stopped. With several processes, each would read the
    same rows: refused. The other arguments are those of :class:`~unplateau.integrations.datasets.CurriculumDataset`.
    """

    def __init__(
        self,
        strategy: Strategy,
        target: Rows,
        fixed: Rows | None = None,
        *,
        batch_size: int,
        collate: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.strategy, self.target, self.fixed = strategy, target, fixed
        self.batch_size, self.collate, self.num_workers, self.seed = batch_size, collate, num_workers, seed

    def train_dataloader(self) -> DataLoader[Any]:
        """The stream from the Trainer's current step on."""
        trainer = self.trainer
        n_batches = 1 if trainer is None else trainer.accumulate_grad_batches
        if trainer is not None and trainer.world_size > 1:
            raise SpecError("CurriculumDataModule: for one process; several would train on the same rows")
        dataset = CurriculumDataset(
            self.strategy,
            self.target,
            self.fixed,
            batch_size=self.batch_size * n_batches,
            rows_at_once=self.batch_size,
            seed=self.seed,
            start=0 if trainer is None else trainer.global_step,
        )
        return DataLoader(dataset, self.batch_size, collate_fn=self.collate, num_workers=self.num_workers)
