"""Associative recall: every key has a label of its own, and a key that comes again has the same label again.

The task of which induction heads are the solution (Olsson et al. 2022, arXiv 2209.11895), in the form of multi-query
associative recall (Arora et al. 2023, arXiv 2312.04927): keys recur at random and every pair is a query.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from unplateau.items.base import split_indices, split_sizes
from unplateau.layout import Factor, Layout, Split, TaskShape, Tokens
from unplateau.rng import fold
from unplateau.tasks.base import AT_ONCE, Shown, Task
from unplateau.tasks.factors import distinct, label_chances, label_table
from unplateau.tasks.posterior import KnownMappings, bayes_predictions
from unplateau.tensors import Batch, Items, Prompts


class AssociativeRecall(Task):
    """Pairs of a key and its label; keys recur, and labels are drawn for each prompt."""

    holds_out_items: ClassVar[bool] = False  # a key has an embedding of its own, which must have been trained
    repeats_items: ClassVar[bool] = True

    n_keys: int = Field(64, ge=2, description="keys there are, each a token with an embedding of its own")
    keys_per_prompt: int = Field(8, ge=1, description="different keys in a prompt")
    n_labels: int = Field(4, ge=2, description="labels there are; two keys may share one")
    n_pairs: int = Field(24, ge=2, description="pairs (key, label) in a prompt (K); each key is as likely at each")
    n_mappings: int | None = Field(None, ge=1, description="mappings of keys to labels: 1 = D_fix, null = fresh")
    mapping_seed: int = Field(0, ge=0, description="seed of the table of mappings when n_mappings is a number")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the keys that test prompts are made of")
    split_seed: int = Field(0, ge=0, description="seed of the choice of these keys")

    @model_validator(mode="after")
    def _enough_keys(self) -> Self:
        _, n_test = split_sizes(self.n_keys, self.test_fraction)
        if self.keys_per_prompt > n_test:
            raise ValueError(
                f"keys_per_prompt {self.keys_per_prompt} is more than the {n_test} keys of test prompts "
                f"(test_fraction {self.test_fraction} of n_keys {self.n_keys})"
            )
        return self

    def data_bytes(self) -> int:
        """Of the keys, and of the table of mappings or the exact predictor's comparison of all pairs."""
        if self.n_mappings is not None:
            return 8 * self.n_keys * (2 + self.n_mappings)
        return 16 * self.n_keys + 8 * AT_ONCE * self.n_pairs**2

    @property
    def shape(self) -> TaskShape:
        """Keys are tokens; what decides a label is the key."""
        return TaskShape(
            layout=Layout(self.n_pairs),
            items=Tokens(self.n_keys),
            n_labels=self.n_labels,
            factors=(Factor("key", self.n_keys, identity=True),),
            asked=(0,),
            choices=("key",),
        )

    def fixed(self, variant: int = 0) -> AssociativeRecall:
        """D_fix: every key has one label for ever; ``variant`` chooses which."""
        return self.model_copy(update={"n_mappings": 1, "mapping_seed": self.mapping_seed + variant})

    def shuffled(self) -> AssociativeRecall:
        """Another table of mappings: a key is all that an item is, so to follow another key is another mapping."""
        return self.model_copy(update={"mapping_seed": self.mapping_seed + 1})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step."""
        generator, pool = fold(seed, f"prompts/{split}", step), self._pool(split)
        chosen = pool[distinct(batch_size, self.keys_per_prompt, len(pool), generator)]  # (B, keys of a prompt)
        which = torch.randint(self.keys_per_prompt, (batch_size, self.n_pairs), generator=generator)  # (B, K)
        keys, table = chosen.gather(1, which), self._table()
        if table is None:
            labels = torch.randint(self.n_labels, chosen.shape, generator=generator).gather(1, which)
        else:
            labels = table[torch.randint(len(table), (batch_size, 1), generator=generator), keys]
        inputs = Prompts(keys[..., None, None] + 1, labels, self.shape.layout)
        return Batch(inputs, labels, keys[..., None], torch.zeros(batch_size, dtype=torch.int64), keys)

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Keys of this step drawn alone (with replacement)."""
        pool = self._pool(split)
        keys = pool[torch.randint(len(pool), (n_items,), generator=fold(seed, f"items/{split}", step))]
        return Items(keys[:, None, None] + 1, keys[:, None])

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: the labels that this key has in all mappings."""
        return label_chances(self._table(), batch.factors[..., 0], self.n_labels)

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: the label that this key had before, else uniform; or the posterior over a known table."""
        keys, table = batch.factors[..., 0], self._table()
        if table is not None:
            return bayes_predictions([KnownMappings(keys, table, self.n_labels)], batch.targets)
        before = (keys[:, :, None] == keys[:, None]).tril(-1).double()  # (B, K, K): pairs before with the same key
        votes = before @ functional.one_hot(batch.targets, self.n_labels).double()
        n_votes = votes.sum(2, keepdim=True)
        return torch.where(n_votes > 0, votes / n_votes.clamp_min(1), 1 / self.n_labels)

    def shown(self, batch: Batch) -> Shown:
        """Keys by their numbers."""
        texts = [[f"key {key}" for key in prompt] for prompt in batch.item_index.tolist()]
        return Shown(texts=texts, rules=["A key that comes again has the label that it had before."] * len(batch))

    def _pool(self, split: Split) -> Tensor:
        """(n,): the keys that prompts of a split are made of; those of training are all."""
        _, test = split_indices(self.n_keys, self.test_fraction, self.split_seed)
        return test if split == "test" else torch.arange(self.n_keys)

    def _table(self) -> Tensor | None:
        """(m, keys) of labels; None: fresh ones per prompt."""
        return label_table(self.n_mappings, self.n_keys, self.n_labels, self.mapping_seed)
