"""Sparse parity: the label is the product of a few of the item's signs, and the prompt hides of which.

No sign by itself says anything of the label, and no pair of signs anything of another pair's product (as in arXiv
2410.05448 and, for single tasks, Barak et al. 2022, arXiv 2207.08799). The number of minus signs says a little.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.items.base import split_indices
from unplateau.layout import Factor, Layout, Split, TaskShape, Vectors
from unplateau.rng import fold
from unplateau.tasks.base import AT_ONCE, Shown, Task
from unplateau.tensors import Batch, Items, Prompts

MOST_SUBSETS = 2000
"""Subsets that the exact predictor can keep in mind at every query of a batch of prompts."""


class SparseParity(Task):
    """Items of n signs; label 1 where the product of the k relevant ones is positive, else 0."""

    repeats_items: ClassVar[bool] = True  # there are only 2^n items

    n_signs: int = Field(6, ge=1, le=20, description="signs of an item (n), each +1 or -1")
    degree: int = Field(2, ge=1, description="signs whose product is the label (k)")
    n_pairs: int = Field(24, ge=2, description="pairs (item, label) in a prompt (K); an item may come twice")
    n_mappings: int | None = Field(
        None, ge=1, description="subsets that a prompt may hide: 1 = D_fix (one known subset), null = all of them"
    )
    mapping_seed: int = Field(0, ge=0, description="seed of the choice of subsets when n_mappings is a number")
    shuffle_factors: bool = Field(
        False, description="control: labels follow the signs of another item, drawn once for each item"
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the 2^n items held out for testing")
    split_seed: int = Field(0, ge=0, description="seed of the train/test split of the items")

    @model_validator(mode="after")
    def _subsets_exist(self) -> Self:
        if self.degree > self.n_signs:
            raise ValueError(f"degree {self.degree} is more than the {self.n_signs} signs of an item")
        n_items = 2**self.n_signs
        if round(n_items * self.test_fraction) >= n_items:
            raise ValueError(f"test_fraction {self.test_fraction} leaves none of the {n_items} items for training")
        n_subsets = math.comb(self.n_signs, self.degree)  # quick: there are 20 signs at most
        if n_subsets > MOST_SUBSETS:
            raise ValueError(
                f"degree {self.degree} of n_signs {self.n_signs}: {n_subsets} subsets, at most {MOST_SUBSETS}"
            )
        if self.n_mappings is not None and self.n_mappings > n_subsets:
            raise ValueError(f"n_mappings {self.n_mappings} is more than the {n_subsets} subsets that there are")
        return self

    def data_bytes(self) -> int:
        """Of the exact predictor: what each subset says of each item."""
        n_subsets = math.comb(self.n_signs, self.degree) if self.n_mappings is None else self.n_mappings
        return 4 * AT_ONCE * self.n_pairs * n_subsets

    @property
    def shape(self) -> TaskShape:
        """Items are vectors of signs, which are the factors; what a prompt may hide is any subset of them."""
        names = [f"sign {number}" for number in range(1, self.n_signs + 1)]
        return TaskShape(
            layout=Layout(self.n_pairs),
            items=Vectors(self.n_signs),
            n_labels=2,
            factors=tuple(Factor(name, 2) for name in names),
            asked=tuple(range(self.n_signs)),
            choices=tuple(" and ".join(subset) for subset in combinations(names, self.degree)),
        )

    def fixed(self, variant: int = 0) -> SparseParity:
        """D_fix: one subset in all prompts; ``variant`` chooses which."""
        return self.model_copy(update={"n_mappings": 1, "mapping_seed": self.mapping_seed + variant})

    def shuffled(self) -> SparseParity:
        """The control with ``shuffle_factors``."""
        return self.model_copy(update={"shuffle_factors": True})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step; the index of an item is its signs read as a binary number."""
        generator, pool, possible = fold(seed, f"prompts/{split}", step), self._pool(split), self._possible()
        index = pool[torch.randint(len(pool), (batch_size, self.n_pairs), generator=generator)]
        hidden = possible[torch.randint(len(possible), (batch_size,), generator=generator)]
        factors = self._factors(index)  # (B, K, n)
        chosen = self._subsets()[hidden][:, None].expand(-1, self.n_pairs, -1)
        labels = _product(factors.gather(2, chosen))
        return Batch(Prompts(_signs(index, self.n_signs), labels, self.shape.layout), labels, factors, hidden, index)

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Items of this step drawn alone (with replacement), with all their signs."""
        pool = self._pool(split)
        index = pool[torch.randint(len(pool), (n_items,), generator=fold(seed, f"items/{split}", step))]
        return Items(_signs(index, self.n_signs), self._factors(index))

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: all subsets that may be hidden vote, each with one voice."""
        says = self._says(batch.factors)  # (B, K, S)
        positive = says.sum(2).double() / says.shape[2]
        return torch.stack((1 - positive, positive), 2)

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: the subsets that agree with all pairs before vote, each with one voice."""
        says = self._says(batch.factors)  # (B, K, S)
        alive = _alive(says, batch.targets)
        positive = (alive * says).sum(2)
        votes = torch.stack((alive.sum(2) - positive, positive), 2).double()
        return votes / votes.sum(2, keepdim=True).clamp_min(1)

    def choice_chances(self, batch: Batch) -> Tensor:
        """(B, K, V) exact: the subsets that agree with all pairs before, each as probable as another."""
        alive = _alive(self._says(batch.factors), batch.targets).double()
        chances = alive / alive.sum(2, keepdim=True).clamp_min(1)
        everywhere = chances.new_zeros(*chances.shape[:2], len(self._subsets()))
        everywhere[..., self._possible()] = chances
        return everywhere

    def shown(self, batch: Batch) -> Shown:
        """Items as signs, labels as the sign of the product."""
        texts = [
            ["".join("+" if one else "-" for one in item) for item in prompt]
            for prompt in _bits(batch.item_index, self.n_signs).tolist()
        ]
        choices = self.shape.choices
        rules = [f"The label is the product of {choices[hidden]}." for hidden in batch.hidden_factor.tolist()]
        return Shown(texts=texts, labels=("-", "+"), rules=rules)

    def _says(self, factors: Tensor) -> Tensor:
        """(..., S) float: the label 0 or 1 that each subset which may be hidden gives to items with these signs."""
        subsets = self._subsets()[self._possible()]
        member = torch.zeros(len(subsets), self.n_signs).scatter_(1, subsets, 1.0)
        return 1 - (1 - factors.float()) @ member.T % 2  # by the number of minus signs

    def _factors(self, index: Tensor) -> Tensor:
        """(..., n) int64, 1 for +: the signs that labels follow, which the control ``shuffle_factors`` moves."""
        if self.shuffle_factors:
            order = torch.randperm(2**self.n_signs, generator=fold(self.mapping_seed, "shuffled factors"))
            index = order[index]
        return _bits(index, self.n_signs)

    def _pool(self, split: Split) -> Tensor:
        """(n,): the items of a split."""
        return split_indices(2**self.n_signs, self.test_fraction, self.split_seed)[split == "test"]

    def _subsets(self) -> Tensor:
        """(C(n, k), k) int64: all subsets, in the order of the shape's choices."""
        return _all_subsets(self.n_signs, self.degree)

    def _possible(self) -> Tensor:
        """(S,): numbers of the subsets that prompts hide."""
        n_subsets = len(self._subsets())
        if self.n_mappings is None:
            return torch.arange(n_subsets)
        return torch.randperm(n_subsets, generator=fold(self.mapping_seed, "mappings"))[: self.n_mappings]


def _alive(says: Tensor, labels: Tensor) -> Tensor:
    """(B, K, S) float: 1 where a subset, which says (B, K, S), agrees with all labels (B, K) before."""
    agrees = (says == labels[..., None]).float()
    return torch.cat((torch.ones_like(agrees[:, :1]), agrees[:, :-1]), 1).cumprod(1)


def _bits(index: Tensor, n_signs: int) -> Tensor:
    """(..., n) int64: the binary digits of these numbers, the first sign in the highest."""
    return index[..., None] >> torch.arange(n_signs - 1, -1, -1) & 1


def _signs(index: Tensor, n_signs: int) -> Tensor:
    """(..., n) float32: +1 and -1."""
    return 2 * _bits(index, n_signs).float() - 1


def _product(digits: Tensor) -> Tensor:
    """(...) int64: 1 where the product of the signs (..., k), given as digits 0 and 1, is positive."""
    return 1 - (1 - digits).sum(-1) % 2


@lru_cache(maxsize=32)
def _all_subsets(n_signs: int, degree: int) -> Tensor:
    return torch.tensor(list(combinations(range(n_signs), degree)))
