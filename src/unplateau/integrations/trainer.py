"""Loss terms, curricula, scores and plateaus inside the ``Trainer`` of transformers.

With no term and no curriculum it is the same training bit for bit.
"""

# ruff: noqa: ARG002 (the arguments of callbacks are not ours to choose)
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from unplateau.errors import CheckpointError, SpecError, missing_extra
from unplateau.integrations.annotation import Annotations
from unplateau.integrations.datasets import CurriculumDataset, Rows
from unplateau.integrations.pairs import Positions
from unplateau.integrations.terms import mean_over_processes
from unplateau.integrations.tokens import TokenStrategy
from unplateau.integrations.watch import Recorder
from unplateau.strategies.strategy import Strategy

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as error:
    raise missing_extra("the Trainer needs transformers and accelerate", "hf") from error

HEADS = "unplateau_heads.safetensors"

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Base = Trainer
else:  # the mixin stands before whichever Trainer it is mixed with
    _Base = object


class UnplateauCallback(Recorder, TrainerCallback):
    """Records losses, scores and plateaus of a Trainer in ``metrics.jsonl`` of its output directory.

    Arguments are those of :class:`~unplateau.integrations.watch.Recorder`; looks happen at logged steps. Only the main
    process writes. Plateaus of the logged loss are logged at the end. A resumed training cuts the file back to its
    checkpoint.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Opens the file; a first look before the first step."""
        if state.is_world_process_zero:
            self.open(str(args.output_dir), state.global_step, model)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """A row for all that is logged at once: a loss with what stands beside it, or one set's evaluation."""
        if self.watch is not None and logs is not None:
            numbers = {key: value for key, value in logs.items() if _is_kept(key, value)}
            if numbers and "train_runtime" not in logs:  # which the summary at the end has
                self.watch.record(state.global_step, look=None if "loss" in logs else False, **numbers)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Logs the plateaus."""
        for plateau in self.plateaus():
            logger.info("loss: %s", plateau)


def _is_kept(key: str, value: Any) -> bool:
    """Whether a logged value is a number, and not about time, which no two trainings share."""
    about_time = key.endswith(("_runtime", "_per_second", "_time"))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and not about_time and key not in ("step", "look")


class StrategyMixin(_Base):
    """Adds a strategy to a Trainer: ``class MyTrainer(StrategyMixin, Trainer)``.

    ``strategy``: loss terms are added to the training loss (never to that of evaluation), curricula choose the rows of
    each step between ``train_dataset`` and ``fixed_dataset``. ``annotation``, ``items`` and ``labels``: see
    :class:`~unplateau.integrations.tokens.TokenStrategy`. All other arguments are the Trainer's.

    A term is a mean over the tokens of an update, however these are cut into micro-batches, and whether the Trainer
    averages losses or divides sums by ``num_items_in_batch``. Each is logged beside the loss under its own name,
    unweighted, and the loss without terms as ``base_loss``. ``compute_loss`` may be your own, in a class behind this
    one; it may call the model more than once: the pass over the batch's own tokens is read. The heads join the
    optimiser (learning rate of the rest, no weight decay, not in the gradient clipping), are saved with every
    checkpoint and taken up again with it. A curriculum needs ``max_steps``. Neither FSDP nor DeepSpeed ZeRO 3 are
    supported: they gather weights only inside their own forward pass. Raises SpecError for what cannot work.
    """

    def __init__(
        self,
        *args: Any,
        strategy: Strategy | None = None,
        annotation: Annotations | None = None,
        items: Positions | None = None,
        labels: Positions | None = None,
        fixed_dataset: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.strategy = Strategy() if strategy is None else strategy
        self.annotation, self.places = annotation, {"items": items, "labels": labels}
        self.helper = self._new_helper()
        self._helped_model = self.model
        self._heads_from: Path | None = None
        self._shares: deque[dict[str, Tensor]] = deque()
        self._loss_parts = _LossParts()
        if self.helper.terms:
            _refuse_unusable(self)
            self.add_callback(_Heads(self))
        if self.strategy.curricula:
            self.train_dataset = self._curriculum(fixed_dataset)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; remembers where to read the heads from."""
        path: Any = resume_from_checkpoint or None
        if path is True:
            path = get_last_checkpoint(str(self.args.output_dir))  # type: ignore[no-untyped-call]
        self._heads_from = Path(path) / HEADS if path else None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def create_optimizer(self, model: Any = None) -> Any:
        """The Trainer's optimiser and, in a group of their own, the heads."""
        if self.helper.terms and self._helped_model is not self.model:  # model_init made a new one
            self.helper.close()
            self.helper, self._helped_model = self._new_helper(), self.model
        if self.helper.terms and self._heads_from is not None:
            _load_heads(self.helper, self._heads_from)
        given = () if model is None else (model,)  # before transformers 5 there is no such argument
        optimiser = super().create_optimizer(*given)
        heads = list(self.helper.parameters())
        known = {id(one) for group in optimiser.param_groups for one in group["params"]}
        if heads and id(heads[0]) not in known:
            if self.lr_scheduler is not None:
                raise SpecError("optimizers: a scheduler of your own cannot take up the heads; leave it to the Trainer")
            optimiser.add_param_group({"params": heads, "weight_decay": 0.0})
        return optimiser

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of an update; how much each counts in the terms is known from here on."""
        found = super().get_batch_samples(*args, **kwargs)
        if self.helper.terms:
            self._shares = deque(self.helper.shares(found[0]))
        return found

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's. Raises SpecError for a ``compute_loss`` that leaves the terms out."""
        before = int(self.helper.calls)
        loss = super().training_step(*args, **kwargs)
        if self.helper.terms and int(self.helper.calls) == before:
            raise SpecError(
                f"{type(self).__name__}.compute_loss hides that of StrategyMixin, so no term was added: write it in a "
                "Trainer of its own, and class Mine(StrategyMixin, ThatTrainer)"
            )
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's loss and, in training, the terms."""
        own = self.helper.batch_keys
        given = {key: value for key, value in inputs.items() if key not in own}  # a copy: the Trainer takes from it
        counted = {} if num_items_in_batch is None else {"num_items_in_batch": num_items_in_batch}
        found = super().compute_loss(model, given, return_outputs=return_outputs, **counted)
        if not (self.helper.terms and model.training):
            return found
        loss = found[0] if isinstance(found, tuple) else found  # some return the loss alone, whatever is asked for
        n_batches = int(self.current_gradient_accumulation_steps)
        divided = 1 if self._is_scaled(num_items_in_batch) else n_batches  # by so many, after this
        shares = self._shares.popleft() if self._shares else None
        added = self.helper(inputs, shares) * (divided if shares is not None else divided / n_batches)
        self._loss_parts.add(
            loss.detach() / divided,
            {name: value if shares is not None else value / n_batches for name, value in self.helper.last.items()},
        )
        return (loss + added, *found[1:]) if isinstance(found, tuple) else loss + added

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's; with the loss, what it is made of."""
        if "loss" in logs and self.helper.terms:
            logs.update(self._loss_parts.take())
        super().log(logs, *args, **kwargs)

    def _is_scaled(self, num_items_in_batch: Any) -> bool:
        """Whether the Trainer leaves the loss as it is, as it does with all but means over a micro-batch."""
        said = getattr(self, "loss_is_scaled_for_ga", None)  # newer versions let subclasses say so
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return bool((counted or self.compute_loss_func is not None) if said is None else said)

    def _new_helper(self) -> TokenStrategy:
        model = cast("torch.nn.Module", self.model)
        helper = TokenStrategy(model, self.strategy, self.annotation, **self.places, seed=self.args.seed)
        return helper.to(self.args.device)

    def _curriculum(self, fixed: Any) -> CurriculumDataset:
        """The stream of rows in the place of the training dataset."""
        args, target = self.args, cast("Rows", self.train_dataset)
        rows = self._train_batch_size * args.gradient_accumulation_steps * args.world_size
        if args.max_steps < 1:
            steps = int(args.num_train_epochs * len(target) / rows)
            raise SpecError(
                f"curricula count steps: set max_steps in TrainingArguments (here {steps} for as many rows)"
            )
        if args.auto_find_batch_size:
            raise SpecError("auto_find_batch_size: a curriculum needs to know the batch size beforehand; set it")
        seed = args.seed if args.data_seed is None else args.data_seed
        return CurriculumDataset(
            self.strategy, target, fixed, batch_size=rows, rows_at_once=self._train_batch_size, seed=seed
        )


class StrategyTrainer(StrategyMixin, Trainer):
    """The Trainer of transformers with a strategy."""


class _LossParts:
    """What the loss of the updates since the last log was made of."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.updates = 0

    def add(self, base: Tensor, terms: Mapping[str, Tensor]) -> None:
        """A micro-batch: its part in the loss without terms, and in each term."""
        for name, value in {"base_loss": base, **terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.float()

    def take(self) -> dict[str, float]:
        """Means over updates and processes."""
        found = {name: float(mean_over_processes(one)) / max(1, self.updates) for name, one in self.sums.items()}
        self.sums, self.updates = {}, 0
        return found


class _Heads(TrainerCallback):
    """Clears the gradients of the heads, which are no part of the model, and saves them with each checkpoint."""

    def __init__(self, trainer: StrategyMixin) -> None:
        self.trainer = trainer

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.trainer.helper.zero_grad(set_to_none=True)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainer._loss_parts = _LossParts()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.trainer._loss_parts.updates += 1

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        from safetensors.torch import save_file  # noqa: PLC0415

        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            tensors = self.trainer.helper.state_dict()
            apart = {name: one.clone(memory_format=torch.contiguous_format) for name, one in tensors.items()}
            save_file(apart, folder / HEADS)  # which refuses two names of one tensor, as tied weights are


def _load_heads(helper: TokenStrategy, path: Path) -> None:
    from safetensors.torch import load_file  # noqa: PLC0415

    if not path.is_file():
        raise CheckpointError(f"{path}: the heads of the loss terms are missing; was it saved with the same strategy?")
    try:
        helper.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: holds heads of another strategy or annotation") from error


def _refuse_unusable(trainer: StrategyMixin) -> None:
    keys = ", ".join(sorted(trainer.helper.batch_keys))
    if keys and trainer.args.remove_unused_columns:
        raise SpecError(f"the Trainer drops {keys} from the batch; set remove_unused_columns=False")
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise SpecError("loss terms need whole weights on each device: FSDP and DeepSpeed are not supported; use DDP")
    if trainer.args.n_gpu > 1 and torch.cuda.device_count() > 1:
        raise SpecError("loss terms: DataParallel is not supported; start one process for each GPU with torchrun")
