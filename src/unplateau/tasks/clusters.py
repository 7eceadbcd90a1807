"""Few-shot classification of noisy clusters: which label has the class of this item in this prompt?

A class is a fixed Gaussian mean and an item a noisy copy of it (Chan et al. 2022, arXiv 2205.05055; Reddy 2023, arXiv
2312.03002). Classes are recognised by the weights, their labels by the context.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.items.base import split_indices, split_sizes
from unplateau.layout import Factor, Layout, Split, TaskShape, Vectors
from unplateau.rng import fold
from unplateau.tasks.base import AT_ONCE, Shown, Task
from unplateau.tasks.factors import distinct, label_chances, label_table
from unplateau.tasks.posterior import FreshMappings, Hypothesis, KnownMappings, bayes_predictions
from unplateau.tensors import Batch, Items, Prompts


class Clusters(Task):
    """Noisy items of a few classes, whose labels are a fresh permutation in every prompt.

    With ``burstiness`` below 1 the other prompts show every class once, so that nothing in them can be looked up: each
    class has then an independent, uniform label. Labels from a table (``n_mappings``) are the same in both.
    """

    repeats_items: ClassVar[bool] = True  # an item is known by its class: it is never seen twice, its class is

    n_classes: int = Field(256, ge=2, description="classes there are, each a fixed mean drawn from N(0, I)")
    width: int = Field(32, ge=1, description="length of an item")
    noise: float = Field(0.1, ge=0, description="deviation of each number of an item from that of its mean")
    classes_per_prompt: int = Field(4, ge=2, description="classes that recur in a bursty prompt; the number of labels")
    burstiness: float = Field(
        1.0, ge=0, le=1, description="share of prompts whose classes recur; in the others none does"
    )
    n_pairs: int = Field(12, ge=2, description="pairs (item, label) in a prompt (K); each class is as likely at each")
    n_mappings: int | None = Field(None, ge=1, description="mappings of classes to labels: 1 = D_fix, null = fresh")
    mapping_seed: int = Field(0, ge=0, description="seed of the table of mappings when n_mappings is a number")
    shuffle_factors: bool = Field(False, description="control: labels follow the class of another item of the prompt")
    cluster_seed: int = Field(0, ge=0, description="seed of the means")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the classes held out for testing")
    split_seed: int = Field(0, ge=0, description="seed of the train/test split of the classes")

    @model_validator(mode="after")
    def _enough_classes(self) -> Self:
        fewest = min(split_sizes(self.n_classes, self.test_fraction))
        needed, name = self.classes_per_prompt, "classes_per_prompt"
        if self.burstiness < 1 and self.n_pairs > needed:
            needed, name = self.n_pairs, "n_pairs (of different classes, with burstiness below 1)"
        if needed > fewest:
            raise ValueError(f"{name} {needed} is more than the {fewest} classes of the smaller half of the split")
        return self

    def data_bytes(self) -> int:
        """Of the means and the split, and of the table of mappings or the exact predictor's comparison of all pairs."""
        classes = self.n_classes * (4 * self.width + 16)
        if self.n_mappings is not None:
            return classes + 8 * self.n_classes * self.n_mappings
        return classes + AT_ONCE * self.n_pairs**2

    @property
    def shape(self) -> TaskShape:
        """Items are vectors; what decides a label is the class."""
        return TaskShape(
            layout=Layout(self.n_pairs),
            items=Vectors(self.width),
            n_labels=self.classes_per_prompt,
            factors=(Factor("class", self.n_classes, identity=True),),
            asked=(0,),
            choices=("class",),
        )

    def fixed(self, variant: int = 0) -> Clusters:
        """D_fix: every class has one label for ever; ``variant`` chooses which."""
        return self.model_copy(update={"n_mappings": 1, "mapping_seed": self.mapping_seed + variant})

    def shuffled(self) -> Clusters:
        """The control with ``shuffle_factors``."""
        return self.model_copy(update={"shuffle_factors": True})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step; items are drawn afresh, so ``item_index`` is their class."""
        generator, size = fold(seed, f"prompts/{split}", step), (batch_size, self.n_pairs)
        pool, table = self._pool(split), self._table()
        some = pool[distinct(batch_size, self.classes_per_prompt, len(pool), generator)]
        which = torch.randint(self.classes_per_prompt, size, generator=generator)
        classes = some.gather(1, which)  # (B, K)
        labels = torch.rand(some.shape, generator=generator, dtype=torch.float32).argsort(1).gather(1, which)
        if self.burstiness < 1:
            bursty = torch.rand(batch_size, 1, generator=generator, dtype=torch.float32) < self.burstiness
            classes = torch.where(bursty, classes, pool[distinct(*size, len(pool), generator)])
            labels = torch.where(bursty, labels, torch.randint(self.classes_per_prompt, size, generator=generator))
        if table is not None:
            labels = table[torch.randint(len(table), (batch_size, 1), generator=generator), classes]
        followed = classes
        if self.shuffle_factors:  # labels stay with the classes that they follow, and items are those of others
            classes = classes.gather(1, torch.rand(size, generator=generator, dtype=torch.float32).argsort(1))
        inputs = Prompts(self._noisy(classes, generator), labels, self.shape.layout)
        return Batch(inputs, labels, followed[..., None], torch.zeros(batch_size, dtype=torch.int64), classes)

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Items of this step drawn alone, each of a random class."""
        generator, pool = fold(seed, f"items/{split}", step), self._pool(split)
        classes = pool[torch.randint(len(pool), (n_items,), generator=generator)]
        return Items(self._noisy(classes, generator), classes[:, None])

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: the labels that the item's class has in all mappings."""
        return label_chances(self._table(), batch.factors[..., 0], self.classes_per_prompt)

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact, given the true classes: the posterior over mappings and, where fresh, kinds of prompt."""
        classes, n_labels, table = batch.factors[..., 0], self.classes_per_prompt, self._table()
        if table is not None:
            return bayes_predictions([KnownMappings(classes, table, n_labels)], batch.targets)
        kinds: list[Hypothesis] = [
            _Bursty(classes, n_labels, self.burstiness),
            _AllDifferent(classes, n_labels, 1 - self.burstiness),
        ]
        return bayes_predictions(kinds, batch.targets)

    def shown(self, batch: Batch) -> Shown:
        """Items by their classes."""
        texts = [[f"class {one}" for one in prompt] for prompt in batch.item_index.tolist()]
        return Shown(texts=texts, rules=["Items of the same class have the same label."] * len(batch))

    def _noisy(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """(..., width) float32: an item of each class."""
        means = _means(self.n_classes, self.width, self.cluster_seed)[classes]
        return means + self.noise * torch.randn(means.shape, generator=generator, dtype=torch.float32)

    def _pool(self, split: Split) -> Tensor:
        """(n,): the classes of a split."""
        return split_indices(self.n_classes, self.test_fraction, self.split_seed)[split == "test"]

    def _table(self) -> Tensor | None:
        """(m, classes) of labels; None: fresh ones per prompt."""
        return label_table(self.n_mappings, self.n_classes, self.classes_per_prompt, self.mapping_seed)


class _Bursty(FreshMappings):
    """A prompt of as many classes as labels, uniform at each pair, whose labels are a permutation."""

    def __init__(self, classes: Tensor, n_labels: int, prior: float) -> None:
        first = (classes[:, :, None] == classes[:, None]).int().argmax(2)  # (B, K): where each class came first
        new = first == torch.arange(classes.shape[1])
        number = (new.cumsum(1) - 1).gather(1, first)  # (B, K): classes in the order in which they come
        super().__init__(number.clamp(max=n_labels - 1), n_labels, n_labels)
        # a class that has not come before is one of those left over: (n - number) of n
        chance = torch.where(new, (n_labels - number).clamp(min=0) / n_labels, 1 / n_labels)
        self.items = prior * chance.double().cumprod(1)  # (B, K): evidence of the classes up to each query

    def predict(self, k: int) -> Tensor:
        """(B, C)."""
        return super().predict(k) * self.items[:, k, None]


class _AllDifferent:
    """A prompt in which no class recurs, whose labels are independent and uniform."""

    def __init__(self, classes: Tensor, n_labels: int, prior: float) -> None:
        recurs = (classes[:, :, None] == classes[:, None]).tril(-1).any(2)  # (B, K)
        self.possible = prior * (recurs.cumsum(1) == 0).double()
        self.n_labels = n_labels

    def predict(self, k: int) -> Tensor:
        """(B, C): as likely each, times the probability of the k labels before."""
        return (self.possible[:, k, None] * self.n_labels ** -(k + 1.0)).expand(-1, self.n_labels)

    def observe(self, k: int, labels: Tensor) -> None:
        """Any label is as likely, so that none tells anything."""


@lru_cache(maxsize=32)
def _means(n_classes: int, width: int, seed: int) -> Tensor:
    """(classes, width) float32."""
    return torch.randn(n_classes, width, generator=fold(seed, "cluster means"), dtype=torch.float32)
