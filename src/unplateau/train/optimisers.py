"""Optimisers and gradient filters as values, none of them of our own making: PyTorch's, and those of pytorch-optimizer.

Names and defaults of their fields are those of these libraries, and ``train.lr`` is the learning rate of all.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from unplateau.config import Kind
from unplateau.errors import missing_extra, suggest

Beta = Annotated[float, Field(ge=0, lt=1)]
STEEPEST = 16
"""Of a power of steps or rates, which a float must hold."""
LEAST = 1e-37
"""Of an epsilon: about the smallest number that float32 holds in full."""


def _held(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"must be at least {LEAST:g}, which float32 can hold (got {value:g})")
    return value


Epsilon = Annotated[float, AfterValidator(_held)]
BETAS = "decay rates of the running means of the gradient and of its square"
EPS = "added to the root of the mean square (epsilon)"
DECAY = "weight decay, decoupled: each step takes this times the learning rate off every weight"


class Optimiser(Kind):
    """What makes a step of the weights out of their gradients."""

    noun = "optimiser"

    kept: ClassVar[int] = 0
    """Numbers that are kept for each weight, at least; memory is estimated with it."""
    multiplies: ClassVar[bool] = True
    """Whether its steps multiply matrices, which FLOPs then count."""
    recordable: ClassVar[bool] = False
    """Whether all that it builds are PyTorch's own with ``capturable``, so that a GPU can replay their steps."""
    averages: ClassVar[bool] = False
    """Whether what it builds has ``eval()``, which puts averaged weights in the place of those that are trained, and
    ``train()``. Everything that looks at the model, and whoever loads it, then gets the averaged ones."""

    @abstractmethod
    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        """The optimisers that together step all ``weights``, those of the loss terms' heads included.

        ``modules``: those of the model by name. Each must have its whole state after one step, so that a run resumes
        exactly. Raises ValueError, one line, for a model that it cannot train.
        """


class Adam(Optimiser):
    """Adam (Kingma and Ba 2015), PyTorch's own."""

    kept = 2
    multiplies = False
    recordable = True

    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description=BETAS)
    eps: Epsilon = Field(1e-8, description=EPS)

    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        """One, fused for speed."""
        del modules
        return [torch.optim.Adam(weights, lr=lr, betas=self.betas, eps=self.eps, fused=True)]


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), PyTorch's own."""

    weight_decay: float = Field(0.01, ge=0, description=DECAY)

    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        """One, fused for speed."""
        del modules
        decay = self.weight_decay
        return [torch.optim.AdamW(weights, lr=lr, betas=self.betas, eps=self.eps, weight_decay=decay, fused=True)]


class Muon(Optimiser):
    """Muon (Jordan et al. 2024), PyTorch's own: steps of matrices are made orthogonal. Adam steps everything else."""

    kept = 1

    modules: tuple[str, ...] = Field(
        ("blocks",), min_length=1, description="names of modules of the model whose matrices Muon steps"
    )
    momentum: Beta = Field(0.95, description="of the running mean of the gradient")
    nesterov: bool = Field(True, description="whether the gradient is added to its running mean once more")
    weight_decay: float = Field(0.1, ge=0, description=DECAY + " in these matrices")
    adjust_lr: Literal["match_rms_adamw", "original"] = Field(
        "match_rms_adamw",
        description="match_rms_adamw: steps as long as those of AdamW, so that its learning rate fits (Liu et al. "
        "2025); original: of length 1 in each direction, for rates near 0.02",
    )
    rest: Adam = Field(default_factory=Adam, description="what steps all other weights, read-out heads included")

    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        """Muon, and one for the rest."""
        for name in self.modules:
            if name not in modules:
                raise ValueError(f"modules: the model has no module '{name}'{suggest(name, filter(None, modules))}")
        inside = {one for name in self.modules for one in modules[name].parameters()}
        matrices = [one for one in weights if one in inside and one.ndim == 2]
        if not matrices:
            named = ", ".join(map(repr, self.modules))
            raise ValueError(f"modules: no matrix is trained in {named}, so there is nothing for Muon to step")
        muon = torch.optim.Muon(
            matrices,
            lr=lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            nesterov=self.nesterov,
            adjust_lr_fn=self.adjust_lr,
        )
        others = [one for one in weights if not (one in inside and one.ndim == 2)]
        return [muon, *(self.rest.build(others, modules, lr) if others else [])]


class SOAP(Optimiser):
    """SOAP (Vyas et al. 2024): Adam in the eigenbases of Shampoo's statistics. Its first step only gathers these."""

    kept = 2

    betas: tuple[Beta, Beta] = Field((0.95, 0.95), description=BETAS)
    eps: Epsilon = Field(1e-8, description=EPS)
    weight_decay: float = Field(0.01, ge=0, description=DECAY)
    precondition_frequency: int = Field(10, ge=1, description="steps between two renewals of the bases")
    max_precondition_dim: int = Field(
        10000, ge=1, description="longest side of a matrix that gets a basis of its own, a square of that size"
    )

    def check(self) -> None:
        """Raises MissingExtraError where pytorch-optimizer is not installed."""
        _pytorch_optimizer("SOAP")

    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        """One."""
        del modules
        return [_pytorch_optimizer("SOAP").SOAP(weights, lr=lr, **dict(self))]


class ScheduleFree(Optimiser):
    """Schedule-free AdamW (Defazio et al. 2024): steps are made at a point between fast weights and their average."""

    kept = 2
    multiplies = False
    averages = True

    betas: tuple[Annotated[float, Field(gt=0, lt=1)], Beta] = Field(
        (0.9, 0.999), description="how near to the average steps are made; decay rate of the mean squared gradient"
    )
    eps: Epsilon = Field(1e-8, description=EPS)
    weight_decay: float = Field(0.0, ge=0, description=DECAY)
    r: float = Field(0.0, ge=0, le=STEEPEST, description="the average weighs step t by t to the power of this")
    weight_lr_power: float = Field(
        2.0, ge=0, le=STEEPEST, description="and by the highest learning rate so far to that of this"
    )

    def check(self) -> None:
        """Raises MissingExtraError where pytorch-optimizer is not installed."""
        _pytorch_optimizer("ScheduleFree")

    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        """One."""
        del modules
        return [_pytorch_optimizer("ScheduleFree").ScheduleFreeAdamW(weights, lr=lr, **dict(self))]


class GradientFilter(Kind):
    """What changes gradients before they are clipped and reach the optimiser."""

    noun = "gradient filter"

    @abstractmethod
    def apply(self, weights: nn.ParameterList, state: dict[str, Tensor]) -> None:
        """Changes ``.grad`` of the weights that have one, in place.

        ``state``: what it remembers from step to step, at first nothing: one tensor for each weight that has had a
        gradient, by its name in ``weights.named_parameters()``.
        """


class Grokfast(GradientFilter):
    """Grokfast (Lee et al. 2024): the slow part of each gradient, a running mean, is added to it."""

    alpha: Beta = Field(0.98, description="decay rate of the running mean")
    lamb: float = Field(2.0, gt=0, description="factor of the running mean (lambda)")

    def check(self) -> None:
        """Raises MissingExtraError where pytorch-optimizer is not installed."""
        _pytorch_optimizer("Grokfast")

    def apply(self, weights: nn.ParameterList, state: dict[str, Tensor]) -> None:
        """By ``gradfilter_ema``."""
        _pytorch_optimizer("Grokfast").optimizer.grokfast.gradfilter_ema(weights, state, self.alpha, self.lamb)


def _pytorch_optimizer(what: str) -> Any:
    try:
        import pytorch_optimizer  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise missing_extra(f"{what} needs pytorch-optimizer", "optim") from error
    return pytorch_optimizer
