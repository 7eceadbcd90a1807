"""In-context linear regression: every prompt hides a vector of weights, and labels are numbers (Garg et al. 2022).

y = w.x + noise with x ~ N(0, I) and w ~ N(0, I / d), so that w.x has variance 1 (d in arXiv 2208.01066), divided by the
deviation of y. The exact predictor is the Bayesian one: ridge regression for fresh weights, a weighted mean for a table
of them (Raventos et al. 2023, arXiv 2306.15063).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations
from typing import Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.layout import Layout, Split, TaskShape, Vectors
from unplateau.rng import fold
from unplateau.tasks.base import AT_ONCE, Task
from unplateau.tasks.factors import distinct
from unplateau.tasks.loss import ROUNDING, log_density, log_likelihood
from unplateau.tasks.posterior import mixture_moments
from unplateau.tensors import Batch, Items, Prompts

MOST_SUPPORTS = 2000
"""Sets of nonzero weights that the exact predictor can keep in mind for every prompt of a batch."""

MOST_COUNTED = 10**12
"""Sets that are counted before they are called more."""


class LinearRegression(Task):
    """Pairs (x, w.x + noise), with other weights in every prompt; labels have variance 1."""

    dimension: int = Field(5, ge=1, description="length of an item (d), whose numbers are drawn from N(0, 1)")
    sparsity: int | None = Field(None, ge=1, description="nonzero weights, N(0, 1 / sparsity) each; null: all d")
    noise: float = Field(0.0, ge=0, description="deviation of the noise of a label, that of w.x being 1")
    n_pairs: int = Field(16, ge=2, description="pairs (x, y) in a prompt (K)")
    n_mappings: int | None = Field(None, ge=1, description="vectors of weights there are: 1 = D_fix, null = fresh")
    mapping_seed: int = Field(0, ge=0, description="seed of the table of weights when n_mappings is a number")
    shuffle_factors: bool = Field(False, description="control: labels are those of items of other prompts")

    @model_validator(mode="after")
    def _supports_exist(self) -> Self:
        if self.sparsity is not None:
            if self.sparsity > self.dimension:
                raise ValueError(f"sparsity {self.sparsity} is more than the {self.dimension} weights (dimension)")
            n_supports = _n_supports(self.dimension, self.sparsity)
            if n_supports > MOST_SUPPORTS:
                more = f"{n_supports}" if n_supports < MOST_COUNTED else f"more than {MOST_COUNTED:,}"
                raise ValueError(
                    f"sparsity {self.sparsity} of dimension {self.dimension}: {more} sets of nonzero weights, "
                    f"at most {MOST_SUPPORTS}"
                )
        return self

    def data_bytes(self) -> int:
        """Of the table of weights, or of the exact predictor: a covariance for each prompt and set of weights."""
        if self.n_mappings is not None:
            return 8 * self.n_mappings * (self.dimension + AT_ONCE)
        n_nonzero = self.sparsity or self.dimension
        return 8 * AT_ONCE * _n_supports(self.dimension, n_nonzero) * n_nonzero**2

    @property
    def shape(self) -> TaskShape:
        """Items are vectors without factors, labels are numbers, and what a prompt hides has no number."""
        return TaskShape(
            layout=Layout(self.n_pairs),
            items=Vectors(self.dimension),
            n_labels=1,
            factors=(),
            asked=(),
            choices=(),
            labels_are_numbers=True,
        )

    def fixed(self, variant: int = 0) -> LinearRegression:
        """D_fix: the same weights in all prompts; ``variant`` chooses which."""
        return self.model_copy(update={"n_mappings": 1, "mapping_seed": self.mapping_seed + variant})

    def shuffled(self) -> LinearRegression:
        """The control with ``shuffle_factors``."""
        return self.model_copy(update={"shuffle_factors": True})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step; items are drawn afresh and have no index."""
        generator, size = fold(seed, f"prompts/{split}", step), (batch_size, self.n_pairs)
        items = torch.randn(*size, self.dimension, generator=generator, dtype=torch.float32)
        weights = self._draw_weights(batch_size, generator)[:, None]  # (B, 1, d)
        followed = items
        if self.shuffle_factors:
            followed = torch.randn(items.shape, generator=generator, dtype=torch.float32)
            weights = self._draw_weights(batch_size * self.n_pairs, generator).view(items.shape)
        noise = self._noise**0.5 * torch.randn(size, generator=generator, dtype=torch.float64)
        labels = ((followed.double() * weights).sum(2) + noise).float()
        nothing = torch.zeros(batch_size, dtype=torch.int64)
        return Batch(
            inputs=Prompts(items, labels, self.shape.layout),
            targets=labels,
            factors=torch.zeros(*size, 0, dtype=torch.int64),
            hidden_factor=nothing,
            item_index=torch.full(size, -1),
        )

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Items of this step drawn alone."""
        items = torch.randn(n_items, self.dimension, generator=fold(seed, f"items/{split}", step), dtype=torch.float32)
        return Items(items, torch.zeros(n_items, 0, dtype=torch.int64))

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, 2): mean 0 and variance 1 for fresh weights; mean and variance of w.x over the vectors of a table.

        Where labels are those of other items, mean 0 and the variance of all labels.
        """
        table = self._table()
        if table is None or self.shuffle_factors:
            variance = 1.0 if table is None else float(table.square().sum(1).mean()) + self._noise
            return torch.tensor([0.0, variance], dtype=torch.float64).expand(*batch.targets.shape, 2)
        assert isinstance(batch.inputs, Prompts)
        items, mean = batch.inputs.items.double(), table.mean(0)
        apart = table - mean
        variances = ((items @ (apart.T @ apart / len(table))) * items).sum(2)
        return torch.stack((items @ mean, variances + self._noise), 2)

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, 2) exact: mean and variance of the posterior predictive distribution."""
        if self.shuffle_factors:
            return self.no_context_predictions(batch)
        return self._filtered(batch)[..., :2]

    def label_log_likelihood(self, batch: Batch) -> Tensor:
        """(B, K) exact, where the predictive distribution is a mixture of Gaussians as well."""
        if self.shuffle_factors:
            return log_likelihood(self.no_context_predictions(batch), batch.targets)
        return self._filtered(batch)[..., 2]

    @property
    def _noise(self) -> float:
        """Variance of the noise, in units of the labels' variance."""
        return self.noise**2 / (1 + self.noise**2)

    @property
    def _prior(self) -> float:
        """Variance of a nonzero weight, in units of the labels' variance."""
        return (1 - self._noise) / (self.sparsity or self.dimension)

    def _draw_weights(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """(rows, d) float64: the weights of each row, for labels of variance 1."""
        table = self._table()
        if table is not None:
            return table[torch.randint(len(table), (n_rows,), generator=generator)]
        return self._fresh_weights(n_rows, generator)

    def _fresh_weights(self, n_rows: int, generator: torch.Generator) -> Tensor:
        n_nonzero = self.sparsity or self.dimension
        where = distinct(n_rows, n_nonzero, self.dimension, generator)
        values = self._prior**0.5 * torch.randn(n_rows, n_nonzero, generator=generator, dtype=torch.float64)
        return torch.zeros(n_rows, self.dimension, dtype=torch.float64).scatter_(1, where, values)

    def _table(self) -> Tensor | None:
        """(m, d) of weights; None: fresh ones per prompt."""
        if self.n_mappings is None:
            return None
        return self._fresh_weights(self.n_mappings, fold(self.mapping_seed, "mappings"))

    def _filtered(self, batch: Batch) -> Tensor:
        """(B, K, 3) float64: mean and variance of each label given the pairs before, and its log density."""
        assert isinstance(batch.inputs, Prompts)
        items, labels, table = batch.inputs.items.double(), batch.targets.double(), self._table()
        hypotheses: _Hypotheses
        if table is None:
            hypotheses = _GaussianWeights(_supports(self.dimension, self.sparsity), self._prior, len(items))
        else:
            hypotheses = _KnownWeights(table)
        log_weights, found = torch.full((1, hypotheses.number), -math.log(hypotheses.number), dtype=torch.float64), []
        for item, label in zip(items.unbind(1), labels.unbind(1), strict=True):
            guess, spread = hypotheses.predict(item)  # (B, H)
            mean, variance = mixture_moments(log_weights.exp(), guess, spread + self._noise)
            error, total = label[:, None] - guess, spread + max(self._noise, ROUNDING)
            hypotheses.observe(error, total)
            joint = log_weights + log_density(error, total)
            density = joint.logsumexp(1)
            log_weights = joint - density[:, None]
            found.append(torch.stack((mean, variance, density), 1))
        return torch.stack(found, 1)


class _Hypotheses(Protocol):
    """Explanations of a prompt, each with a Gaussian for every label."""

    @property
    def number(self) -> int:
        """How many (H)."""

    def predict(self, item: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, H) of w.x for these items (B, d); the variance may be one for all (1, 1)."""

    def observe(self, error: Tensor, total: Tensor) -> None:
        """Takes in how far the labels of these items are from their means, and the variance (B, H) of that."""


class _KnownWeights:
    """Each vector of a table (H, d) is a hypothesis, which knows w.x."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.number = table, len(table)

    def predict(self, item: Tensor) -> tuple[Tensor, Tensor]:
        return item @ self.table.T, torch.zeros(1, 1, dtype=torch.float64)

    def observe(self, error: Tensor, total: Tensor) -> None:
        """Nothing is left to be learnt."""


class _GaussianWeights:
    """Each set of nonzero weights is a hypothesis, with a Gaussian over their values: recursive least squares.

    A covariance that shrinks pair by pair stays accurate where labels have no noise, which would make the precision
    infinite.
    """

    def __init__(self, supports: Tensor, prior: float, n_rows: int) -> None:
        self.supports, self.number = supports, len(supports)  # (H, s)
        n_sets, n_nonzero = supports.shape
        self.mean = torch.zeros(n_rows, n_sets, n_nonzero, dtype=torch.float64)
        self.covariance = prior * torch.eye(n_nonzero, dtype=torch.float64).expand(n_rows, n_sets, -1, -1)

    def predict(self, item: Tensor) -> tuple[Tensor, Tensor]:
        own = item[:, self.supports]  # (B, H, s)
        self.gain = (self.covariance @ own[..., None]).squeeze(-1)
        return (self.mean * own).sum(2), (self.gain * own).sum(2).clamp_min(0)

    def observe(self, error: Tensor, total: Tensor) -> None:
        self.mean = self.mean + self.gain * (error / total)[..., None]
        step = self.gain[..., None] * self.gain[..., None, :]
        self.covariance = self.covariance - step / total[..., None, None]


def _n_supports(dimension: int, sparsity: int) -> int:
    """How many sets of weights may be the nonzero ones; counted up to ``MOST_COUNTED``, for there may be no end."""
    found = 1
    for number in range(min(sparsity, dimension - sparsity)):
        found = found * (dimension - number) // (number + 1)
        if found >= MOST_COUNTED:
            return MOST_COUNTED
    return found


@lru_cache(maxsize=32)
def _supports(dimension: int, sparsity: int | None) -> Tensor:
    """(H, s) int64: the sets of weights that may be the nonzero ones."""
    return torch.tensor(list(combinations(range(dimension), sparsity or dimension)))
