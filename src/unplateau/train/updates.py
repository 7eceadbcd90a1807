"""One step of the weights: learning rate, gradient filter, clipping, optimisers, and all that these remember.

A run has one :class:`Updates`, whatever optimisers it has, so that the loop and its checkpoints know of none.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unplateau.config import placed
from unplateau.decompose import Trainable
from unplateau.errors import DivergedError, SpecError
from unplateau.train.spec import TrainConfig

RISE = 20
"""Unless told otherwise a schedule rises over one part in so many, and what falls ends at one part in so many."""
STABLE = 5
"""A warm-up-stable-decay schedule falls over the last one part in so many (Hägele et al. 2024)."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Of the update after ``step`` others; see ``train.schedule`` and ``train.warm_up``."""
    rise: float = 0 if config.schedule == "constant" else config.steps / RISE
    rise = rise if config.warm_up is None else config.warm_up
    risen = min(1.0, (step + 1) / rise) if rise else 1.0
    if config.schedule == "constant":
        return config.lr * risen
    if config.schedule == "cosine":
        fall = (1 + math.cos(math.pi * max(0.0, step - rise) / (config.steps - rise))) / 2
    else:
        fall = min(1.0, (config.steps - step) / (config.steps / STABLE))
    return config.lr * risen * (1 / RISE + (1 - 1 / RISE) * fall)


NOT_FINITE = (OverflowError, torch.linalg.LinAlgError)  # type: ignore[attr-defined] # which it exports, unmarked
"""What optimisers raise whose numbers have grown too large."""


class Updates:
    """What steps the weights of a model and of the loss terms' heads; what is frozen is left out.

    Weights have numbers, in the order of ``parameters()``, those of the heads last. Raises SpecError for an optimiser
    that cannot train this model.
    """

    def __init__(self, config: TrainConfig, model: Trainable, heads: nn.ModuleDict) -> None:
        self.config, self.model, self.heads = config, model, heads
        trained = [one for part in (model, heads) for one in part.parameters() if one.requires_grad]
        if not trained:
            raise SpecError("train.frozen: every weight is frozen, so there is nothing to train")
        self.weights = nn.ParameterList(trained)
        modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
        with placed("train.optimiser"):
            self.optimisers = config.optimiser.build(trained, modules, config.lr)
        self.filtered: dict[str, Tensor] = {}
        self._numbers = {one: str(number) for number, one in enumerate(trained)}

    def step(self, step: int) -> None:
        """The update after ``step`` others, from the gradients that the weights have now.

        Raises DivergedError where an optimiser takes matrices apart that are not finite, or its numbers grow too large.
        """
        self.set_rate(step)
        try:
            self.apply()
        except (OverflowError, RuntimeError) as error:
            if not (isinstance(error, NOT_FINITE) or "without overflow" in str(error)):
                raise
            raise DivergedError(
                f"step {step + 1}: {' '.join(str(error).split())}; the last checkpoint is kept; a lower train.lr "
                f"(now {self.config.lr:g}) usually helps"
            ) from error

    def set_rate(self, step: int) -> None:
        """The learning rate of the update after ``step`` others."""
        rate = learning_rate(self.config, step)
        for _, group in self._groups():
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def apply(self) -> None:
        """The update at the learning rate that is set."""
        if self.config.gradient_filter is not None:
            self.config.gradient_filter.apply(self.weights, self.filtered)
        if self.config.clip_norm is not None:
            self.clip(self.config.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()

    def make_recordable(self) -> bool:
        """Whether :meth:`apply` takes nothing from Python any more that differs from step to step: see ``Optimiser``.

        On a CPU, where nothing is recorded, only what it could do is said.
        """
        if not self.config.optimiser.recordable or self.config.gradient_filter is not None:
            return False
        for _, group in self._groups():
            weight = group["params"][0]
            if weight.is_cuda:
                group |= {"capturable": True, "lr": torch.tensor(group["lr"], device=weight.device)}
        return True

    def clip(self, most: float) -> None:
        """Scales all gradients down together where their norm is above this."""
        nn.utils.clip_grad_norm_(self.weights, most)

    def zero_grad(self) -> None:
        """Drops the gradients of all weights."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are those that a model is judged by, where the optimiser averages them.

        Afterwards they are as before, bit for bit: going there and back would round.
        """
        if not self.config.optimiser.averages:
            yield
            return
        before = [one.detach().clone() for one in self.weights]
        averaging: list[Any] = self.optimisers
        for optimiser in averaging:
            optimiser.eval()
        try:
            yield
        finally:
            for optimiser in averaging:
                optimiser.train()
            with torch.no_grad():
                for weight, value in zip(self.weights, before, strict=True):
                    weight.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """All that is remembered: ``<number of the weight>/<name>``, and what a group counts, ``group0/<name>``.

        Where weights are averaged, those that steps are made from are among it.
        """
        found: dict[str, Tensor] = {}
        for number, (optimiser, group) in enumerate(self._groups()):
            found |= _flat(_counted(optimiser, group), f"group{number}/")
            for weight in group["params"]:
                state = _flat(optimiser.state.get(weight, {}), f"{self._numbers[weight]}/")
                if state and self.config.optimiser.averages:
                    state[f"{self._numbers[weight]}/weights"] = weight.detach().clone()
                found |= state
        return found | {f"{number}/gradient_filter": tensor for number, tensor in self.filtered.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what :meth:`tensors` returned; they must have the form of :meth:`blank`."""
        blank, begun = self.blank(), {name.partition("/")[0] for name in tensors}
        for number, (mine, its) in enumerate(zip(self._groups(), blank._groups(), strict=True)):
            (optimiser, group), (pattern, other) = mine, its
            group.update(_filled(_counted(pattern, other), f"group{number}/", tensors))
            for weight, copied in zip(group["params"], other["params"], strict=True):
                name = self._numbers[weight]
                if name in begun:  # else it has had no gradient
                    optimiser.state[weight] = _filled(pattern.state[copied], f"{name}/", tensors)
        for name in [name for name in blank.filtered if name in begun]:  # in the same order in every process
            self.filtered[name] = blank.filtered[name].copy_(tensors[f"{name}/gradient_filter"])
        if self.config.optimiser.averages:
            with torch.no_grad():
                for weight, name in self._numbers.items():
                    if name in begun:
                        weight.copy_(tensors[f"{name}/weights"])

    def blank(self) -> "Updates":
        """The same for a copy of the weights, after a step with gradients of 0: its tensors have the form of these."""
        other = Updates(self.config, *copy.deepcopy((self.model, self.heads)))
        for weight in other.weights:
            weight.grad = torch.zeros_like(weight)
        other.step(0)
        return other

    def _groups(self) -> list[tuple[torch.optim.Optimizer, dict[str, Any]]]:
        return [(optimiser, group) for optimiser in self.optimisers for group in optimiser.param_groups]


def _counted(optimiser: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a group that are no settings: some optimisers count steps there."""
    settings = optimiser.defaults | {"lr": group["lr"]}
    return {name: value for name, value in group.items() if _is_number(value) and value != settings.get(name)}


def _is_number(value: object) -> bool:
    return type(value) in (int, float)  # and not bool


def _flat(state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The tensors of a state by name, those of a list as ``name.0``; numbers as tensors, exactly."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif _is_number(value):
            found[prefix + name] = torch.tensor(value, dtype=torch.float64)
        elif isinstance(value, list):
            found |= _flat({str(place): one for place, one in enumerate(value)}, f"{prefix}{name}.")
    return found


def _filled(pattern: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state whose tensors these are: the pattern with its tensors and numbers replaced."""
    filled: dict[str, Any] = dict(pattern)
    for name, value in pattern.items():
        if isinstance(value, Tensor):
            filled[name] = value.copy_(tensors[prefix + name])
        elif _is_number(value):
            filled[name] = type(value)(tensors[prefix + name].item())
        elif isinstance(value, list):
            inner = _filled({str(place): one for place, one in enumerate(value)}, f"{prefix}{name}.", tensors)
            filled[name] = [*inner.values()]
    return filled
