"""What the loss terms of a strategy have in common wherever they stand beside somebody else's model."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from unplateau.config import placed
from unplateau.errors import SpecError
from unplateau.strategies.base import Ask, LossTerm, View
from unplateau.strategies.strategy import Strategy
from unplateau.train.host import build_head, head_key

logger = logging.getLogger(__name__)


class NotShownError(Exception):
    """What a term reads is not there in this model or batch: the term is left out, the others go on."""


class LossTerms(nn.Module, ABC):
    """The loss terms of a strategy as a module beside a model: a :class:`~unplateau.strategies.base.Host`.

    ``parameters()`` are those of the heads alone; they follow a model that was moved at the next call, and average
    their gradients over processes. A step of theirs is a call.
    """

    calls: Tensor
    """How often it was called: the step of the terms and of their random streams, saved with the heads."""
    n_layers: int
    """Number of blocks of the model (L)."""
    width: int
    """Width of its hidden states (D)."""

    def __init__(self, strategy: Strategy | str, seed: int) -> None:
        super().__init__()
        with placed("strategy"):
            strategy = Strategy(strategy) if isinstance(strategy, str) else strategy
        self.terms, self.seed = strategy.loss_terms, seed
        self.heads = nn.ModuleDict()
        self.last: dict[str, Tensor] = {}
        self._head_of: dict[str, nn.Module] = {}
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    @property
    @abstractmethod
    def refused(self) -> Mapping[str, str]:
        """What means nothing here, and why."""

    @abstractmethod
    def read_out(self, ask: Ask) -> nn.Module:
        """A head for what is asked."""

    @abstractmethod
    def close(self) -> None:
        """Removes the hooks; the model is then as if the helper had never been."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add_heads(self, device: torch.device) -> None:
        """A head for each term, if it can work here; the subclass has set ``n_layers`` and ``width`` before."""
        for term in self.terms:
            with placed():
                term.check_host(self)
            self._add_head(term)
        self._follow(device)
        for parameter in self.heads.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_average_over_processes)

    def _add_head(self, term: LossTerm) -> None:
        self._head_of[term.name] = build_head(term, self, init="scaled", seed=self.seed)
        self.heads[head_key(term.name)] = self._head_of[term.name]

    def _follow(self, device: torch.device) -> None:
        """Heads are where the model is, also if it was moved after the helper was made."""
        if any(tensor.device != device for tensor in chain(self.heads.parameters(), self.heads.buffers())):
            self.heads.to(device)

    def _compute(self, view_of: Callable[[LossTerm, Any], View]) -> dict[str, Tensor]:
        """The unweighted value of each term by name; one that cannot be shown what it reads is left out from now on."""
        values = {}
        for term in self._present():
            try:
                values[term.name] = term.value(view_of(term, self._head_of[term.name]))
            except NotShownError as error:
                self.terms = tuple(one for one in self.terms if one is not term)
                if not self.terms:
                    raise SpecError(str(error)) from error
                logger.warning("%s: left out", error)
        self.calls += 1
        self.last = {name: value.detach() for name, value in values.items()}
        return values

    def _weighted(self, values: Mapping[str, Tensor]) -> Tensor | float:
        """The sum of the terms just computed, each times its weight at that step; 0.0 without any."""
        step = int(self.calls) - 1
        return sum((term.weight_at(step) * values[term.name] for term in self.terms if term.name in values), 0.0)

    def _present(self) -> list[LossTerm]:
        """The terms that are not let go at this step."""
        step = int(self.calls)
        return [term for term in self.terms if term.weight_at(step) > 0]

    def _let_go(self) -> bool:
        """Whether this call has nothing to compute; it counts as a step, and after the last one the hooks are gone."""
        if self._present():
            return False
        step = int(self.calls)
        if all(term.lasts is not None and step >= term.lasts for term in self.terms):
            self.close()
        self.calls += 1
        self.last = {}
        return True


def in_precision_of(head: Any, states: Tensor) -> Tensor:
    """States in the precision of a head, so that any module will do as one."""
    parameters = head.parameters() if isinstance(head, nn.Module) else ()
    return states.to(next((one.dtype for one in parameters if one.is_floating_point()), states.dtype))


def mean_over_processes(value: Tensor) -> Tensor:
    """The same in each process of distributed training; the value itself elsewhere."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _average_over_processes(parameter: Tensor) -> None:
    """Heads live outside the wrappers of distributed training; what was averaged before stays as it is."""
    if parameter.grad is not None:
        parameter.grad.copy_(mean_over_processes(parameter.grad))
