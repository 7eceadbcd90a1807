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
from unplateau.integrations.terms import LossTerms
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
    ``training_step`` returned it. In manual optimisation, where that need not return one, it is otherwise the sum of
    what went through ``manual_backward`` since the update before, and each of several is ``loss/1``, ``loss/2`` ... in
    their order. Terms of helpers in the module have columns of their own, unweighted. Steps are updates: a batch in
    which several optimisers step is one. Only the main process writes.
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
        self._updates: int | None = None
        self._stepped = 0
        self._backward: list[Tensor] = []
        self._warned = False

    def state_dict(self) -> dict[str, Any]:
        """The number of updates, which Lightning does not know where a module has several optimisers."""
        return {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """To go on counting."""
        self._updates = state_dict["updates"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file; a first look before the first step."""
        if self._updates is None or trainer.global_step == 0 or _steps_once(trainer):
            self._updates = updates_so_far(trainer)
        self._stepped, self._backward = trainer.global_step, []
        self._recorded = self._updates  # the first micro-batches belong to the next step
        if trainer.is_global_zero:
            self.open(trainer.default_root_dir, self._updates, pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keeps what manual optimisation descends."""
        if not pl_module.automatic_optimization:
            scaler = getattr(trainer.precision_plugin, "scaler", None)  # of half precision, which has scaled it by now
            self._backward.append(loss.detach().float().mean() / (1 if scaler is None else scaler.get_scale()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A row where one is due."""
        made = trainer.global_step - self._stepped
        self._stepped = trainer.global_step
        assert self._updates is not None
        self._updates += made if _steps_once(trainer) else min(made, 1)
        step = self._updates
        losses = self._losses(trainer, pl_module, outputs)
        if made:
            self._backward = []
        if self.watch is None or step == self._recorded or step % self.log_every:
            return
        if losses["loss"] is None and not self._warned:
            self._warned = True
            logger.warning(
                "no loss to record at step %d: return it from training_step, or call self.manual_backward(loss)", step
            )
        values: dict[str, Any] = {**losses, **{name: float(value) for name, value in _terms(pl_module).items()}}
        self.watch.record(step, **values)
        self._recorded = step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the plateaus."""
        for plateau in self.plateaus():
            logger.info("loss: %s", plateau)

    def _losses(self, trainer: Trainer, module: LightningModule, outputs: Any) -> dict[str, float | None]:
        """Of this row, by column."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None and module.automatic_optimization:  # Lightning hands on what it descends
            loss = loss * trainer.accumulate_grad_batches
        several = [float(one) for one in self._backward]
        apart: dict[str, float | None] = {}
        if len(trainer.optimizers) > 1 and len(several) > 1:
            apart = {f"loss/{number}": one for number, one in enumerate(several, start=1)}
        if loss is None and several:
            loss = sum(several)
        return {"loss": None if loss is None else float(loss), **apart}


def updates_so_far(trainer: Trainer) -> int:
    """How often the weights were updated: Lightning counts the steps of all optimisers, one in each update."""
    return trainer.global_step if _steps_once(trainer) else trainer.global_step // len(trainer.optimizers)


def _steps_once(trainer: Trainer) -> bool:
    """Whether each step that Lightning counts is an update of its own."""
    return len(trainer.optimizers) < 2


def _terms(module: LightningModule) -> dict[str, Tensor]:
    """Values of the loss terms in the newest batch."""
    helpers = [one for one in module.modules() if isinstance(one, LossTerms)]
    return {name: value for helper in helpers for name, value in helper.last.items()}


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
            start=0 if trainer is None else updates_so_far(trainer),
        )
        return DataLoader(dataset, self.batch_size, collate_fn=self.collate, num_workers=self.num_workers)
