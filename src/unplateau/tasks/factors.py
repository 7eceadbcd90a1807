"""The factor task: a prompt hides one factor and one mapping from its values to labels (Fu et al. 2024, section 3).

Prompts are x_1 y_1 ... x_K y_K with y_i = mapping(value of the hidden factor in x_i). One knob, ``n_mappings``, leads
from D_fix (1: the mapping can live in the weights) to D_rnd (None: a fresh permutation per prompt).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.errors import SpecError, suggest
from unplateau.items.base import ItemSource
from unplateau.layout import Factor, Layout, Split, TaskShape
from unplateau.rng import fold
from unplateau.tasks.base import Shown, Task
from unplateau.tasks.posterior import FreshMappings, KnownMappings, bayes_predictions, choice_chances
from unplateau.tensors import Batch, Items, Prompts


class FactorTask(Task):
    """Hidden factor and hidden mapping per prompt, over any :class:`~unplateau.items.base.ItemSource`."""

    source: ItemSource = Field(description="where the items come from")
    hidden: tuple[str, ...] | None = Field(None, description="names of the factors a prompt may hide; null: all")
    n_mappings: int | None = Field(None, ge=1, description="mappings per factor: 1 = D_fix, null = fresh per prompt")
    n_pairs: int = Field(16, ge=1, description="pairs (item, label) in a prompt (K)")
    mapping_seed: int = Field(0, ge=0, description="seed of the table of mappings when n_mappings is a number")
    shuffle_factors: bool = Field(
        False, description="control: labels follow the factors of another item, drawn once for each item"
    )

    @model_validator(mode="after")
    def _hidden_exist(self) -> Self:
        names = self.source.factor_names
        for name in self.hidden if self.hidden is not None else ():
            if name not in names:
                raise ValueError(f"unknown factor '{name}'{suggest(name, names)}")
        if self.hidden is not None and len(set(self.hidden)) != max(1, len(self.hidden)):
            raise ValueError("hidden must name at least one factor and none twice")
        return self

    def check(self) -> None:
        """Reads the items: a prompt needs as many as it has pairs."""
        n_items = min(len(self.source.split("train")), len(self.source.split("test")))
        if self.n_pairs > n_items:
            raise ValueError(
                f"n_pairs {self.n_pairs} is more than the {n_items} items of the smaller half of the split; "
                f"a prompt never repeats an item"
            )

    def data_bytes(self) -> int:
        """Of the table of mappings, as it is drawn and sorted."""
        if self.n_mappings is None:
            return 0
        sizes = dict(zip(self.source.factor_names, self.source.factor_sizes, strict=True))
        asked = self.source.factor_names if self.hidden is None else self.hidden
        return mapping_bytes(self.n_mappings, tuple(sizes[name] for name in asked))

    @property
    def shape(self) -> TaskShape:
        """Sizes for the model; the label vocabulary is as large as the largest factor that may be hidden."""
        names, sizes = self.source.factor_names, self.source.factor_sizes
        asked = names if self.hidden is None else self.hidden
        return TaskShape(
            layout=Layout(self.n_pairs, self.source.item_length),
            items=self.source.form,
            n_labels=max(sizes[names.index(name)] for name in asked),
            factors=tuple(map(Factor, names, sizes)),
            asked=tuple(map(names.index, asked)),
            choices=asked,
        )

    @property
    def holds_out_items(self) -> bool:
        """As the source says."""
        return self.source.holds_out_items

    def fixed(self, variant: int = 0) -> FactorTask:
        """D_fix: one mapping per factor, the first of the table that ``mapping_seed + variant`` draws."""
        return self.model_copy(update={"n_mappings": 1, "mapping_seed": self.mapping_seed + variant})

    def shuffled(self) -> FactorTask:
        """The control with ``shuffle_factors``."""
        return self.model_copy(update={"shuffle_factors": True})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step; the items of a prompt are distinct."""
        return self._sampled(torch.device("cpu"), step, batch_size, split, seed)

    def sample_on(
        self, device: torch.device, step: int, *, batch_size: int, split: Split = "train", seed: int = 0
    ) -> Batch:
        """The same on this device, where a GPU looks up the items."""
        if type(self).sample is not FactorTask.sample:  # that of a class of one's own, which decides
            return super().sample_on(device, step, batch_size=batch_size, split=split, seed=seed)
        return self._sampled(device, step, batch_size, split, seed)

    def _sampled(self, device: torch.device, step: int, batch_size: int, split: Split, seed: int) -> Batch:
        generator, shape = fold(seed, f"prompts/{split}", step), self.shape
        pool = self.source.split(split)
        index = pool[distinct(batch_size, self.n_pairs, len(pool), generator)]  # (B, K)
        factors = self._label_factors()[index]  # (B, K, F)
        candidates = torch.tensor(shape.asked)
        choice = torch.randint(len(candidates), (batch_size,), generator=generator)
        values = factors.gather(2, candidates[choice].view(-1, 1, 1).expand(-1, self.n_pairs, 1)).squeeze(2)
        labels = self._draw_mappings(choice, generator).gather(1, values)
        inputs = Prompts(self.source.inputs_on(device, index), labels, shape.layout)
        return Batch(inputs, labels, factors, candidates[choice], index).to(device)

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Items of this step drawn alone (with replacement), with all their factors."""
        pool = self.source.split(split)
        index = pool[torch.randint(len(pool), (n_items,), generator=fold(seed, f"items/{split}", step))]
        return Items(self.source.inputs(index), self._label_factors()[index])

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: all mappings of all factors vote for their labels; of fresh ones an item tells nothing."""
        shape, tables = self.shape, self._mapping_tables()
        votes = torch.zeros(*batch.targets.shape, shape.n_labels, dtype=torch.float64)
        for slot, factor in enumerate(shape.asked):
            if tables is None:
                size = shape.factor_sizes[factor]
                votes[..., :size] += 1 / size
            else:
                votes += label_chances(tables[slot], batch.factors[..., factor], shape.n_labels)
        return votes / len(shape.asked)

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: posterior over hidden factor and mapping given the pairs before."""
        return bayes_predictions(self._hypotheses(batch), batch.targets)

    def choice_chances(self, batch: Batch) -> Tensor:
        """(B, K, V) exact: posterior over the hidden factor, all mappings together."""
        return choice_chances(self._hypotheses(batch), batch.targets)

    def _hypotheses(self, batch: Batch) -> list[FreshMappings | KnownMappings]:
        """One for each factor that may be hidden."""
        shape, tables = self.shape, self._mapping_tables()
        return [
            FreshMappings(batch.factors[..., factor], shape.factor_sizes[factor], shape.n_labels)
            if tables is None
            else KnownMappings(batch.factors[..., factor], tables[slot], shape.n_labels)
            for slot, factor in enumerate(shape.asked)
        ]

    def shown(self, batch: Batch) -> Shown:
        """The source's pictures or texts of the items; labels have no names."""
        texts = self.source.texts()
        in_words = None if texts is None else [[texts[item] for item in row] for row in batch.item_index.tolist()]
        return Shown(self.source.images(batch.item_index), in_words)

    def _label_factors(self) -> Tensor:
        """(N, F): the factors that labels follow, which the control ``shuffle_factors`` moves to other items."""
        factors = self.source.factors()
        if not self.shuffle_factors:
            return factors
        return factors[torch.randperm(len(factors), generator=fold(self.mapping_seed, "shuffled factors"))]

    def _draw_mappings(self, choice: Tensor, generator: torch.Generator) -> Tensor:
        """(B, largest n_f): one mapping a row for the chosen slot of ``asked``."""
        sizes, tables = self._asked_sizes(), self._mapping_tables()
        n_rows, largest = len(choice), max(sizes)
        if tables is None:
            keys = torch.rand(n_rows, largest, generator=generator, dtype=torch.float32)
            keys[torch.arange(largest) >= torch.tensor(sizes)[choice, None]] = 2.0  # values the factor lacks stay
            return keys.argsort(1)
        which = torch.randint(len(tables[0]), (n_rows,), generator=generator)
        mappings = torch.zeros(n_rows, largest, dtype=torch.int64)
        for slot, table in enumerate(tables):
            rows = choice == slot
            mappings[rows, : table.shape[1]] = table[which[rows]]
        return mappings

    def _asked_sizes(self) -> tuple[int, ...]:
        shape = self.shape
        return tuple(shape.factor_sizes[factor] for factor in shape.asked)

    def _mapping_tables(self) -> list[Tensor] | None:
        """One (m, n_f) table of permutations for each factor that may be hidden; None: fresh ones per prompt."""
        if self.n_mappings is None:
            return None
        return mapping_tables(self.n_mappings, self._asked_sizes(), self.mapping_seed)


def distinct(n_rows: int, n_draws: int, n_items: int, generator: torch.Generator) -> Tensor:
    """(rows, draws) int64 below ``n_items``, uniform, no repetition in a row (Floyd's algorithm, then shuffled).

    Raises SpecError for more draws than there are items.
    """
    if n_draws > n_items:
        raise SpecError(f"a prompt takes {n_draws} different items, and there are {n_items}: lower its number of pairs")
    drawn = np.empty((n_rows, n_draws), dtype=np.int64)
    for place, top in enumerate(range(n_items - n_draws, n_items)):
        candidate = torch.randint(top + 1, (n_rows,), generator=generator).numpy()
        taken = (drawn[:, :place] == candidate[:, None]).any(1)
        drawn[:, place] = np.where(taken, top, candidate)
    order = torch.rand(n_rows, n_draws, generator=generator, dtype=torch.float32).argsort(1)
    return torch.from_numpy(drawn).gather(1, order)


@lru_cache(maxsize=64)
def mapping_tables(n_mappings: int, sizes: tuple[int, ...], seed: int) -> list[Tensor]:
    """A fixed table of permutations (m, size) for each size."""
    generator = fold(seed, "mappings")
    return [torch.rand(n_mappings, size, generator=generator, dtype=torch.float32).argsort(1) for size in sizes]


def mapping_bytes(n_mappings: int, sizes: tuple[int, ...]) -> int:
    """Of what :func:`mapping_tables` makes of these, and what it makes it of."""
    return 12 * n_mappings * sum(sizes)


@lru_cache(maxsize=64)
def label_table(n_mappings: int | None, n_values: int, n_labels: int, seed: int) -> Tensor | None:
    """(m, values) int64: mappings whose labels are drawn one by one, so that two values may share a label.

    None: fresh ones per prompt, of which there is no table.
    """
    if n_mappings is None:
        return None
    return torch.randint(n_labels, (n_mappings, n_values), generator=fold(seed, "mappings"))


def label_chances(table: Tensor | None, values: Tensor, n_labels: int) -> Tensor:
    """(..., C) float64: share of the mappings (m, n) that give each label to these values; None: fresh, all alike."""
    if table is None:
        return torch.full((*values.shape, n_labels), 1 / n_labels, dtype=torch.float64)
    n_mappings, n_values = table.shape
    cells = torch.arange(n_values) * n_labels + table
    counts = torch.bincount(cells.flatten(), minlength=n_values * n_labels).view(n_values, n_labels)
    return counts[values].double() / n_mappings
