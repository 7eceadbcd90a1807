"""Where items come from: a finite set of them with known factors, split once into train and test.

A source gives models something to read, tasks, floors and probes the factor values, and people pictures or texts.
"""

from abc import abstractmethod
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from unplateau.config import Kind
from unplateau.layout import Split, Tokens, Vectors
from unplateau.rng import fold
from unplateau.tensors import sent

MOST_KEPT = 2**31
"""Bytes of a source's items that a GPU keeps."""


class ItemSource(Kind):
    """A finite set of N items with F discrete factors each."""

    noun = "source of items"

    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the items held out for testing")
    split_seed: int = Field(0, ge=0, description="seed of the train/test split of the items")

    @property
    @abstractmethod
    def factor_names(self) -> tuple[str, ...]:
        """Names of the F factors."""

    @property
    @abstractmethod
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""

    @property
    @abstractmethod
    def form(self) -> Vectors | Tokens:
        """How items are written: as vectors of some length, or in tokens of some vocabulary."""

    @property
    def item_length(self) -> int:
        """Positions that an item takes in a prompt."""
        return 1

    @property
    def holds_out_items(self) -> bool:
        """Whether training leaves the test items out: see :class:`~unplateau.tasks.base.Task`."""
        return True

    @abstractmethod
    def factors(self) -> Tensor:
        """(N, F) int64: the factor values of every item."""

    def vectors(self, index: Tensor) -> Tensor:
        """(..., width) float32: the vectors of the items with these indices (any shape of int64)."""
        raise NotImplementedError(f"{type(self).__name__} writes its items in tokens")

    def tokens(self, index: Tensor) -> Tensor:
        """(..., positions of an item, tokens at a position) int64, from 1 to the vocabulary; 0 stands for none."""
        raise NotImplementedError(f"{type(self).__name__} writes its items as vectors")

    def inputs(self, index: Tensor) -> Tensor:
        """What a model reads of these items: their vectors or tokens."""
        return self.vectors(index) if isinstance(self.form, Vectors) else self.tokens(index)

    def inputs_on(self, device: torch.device, index: Tensor) -> Tensor:
        """The same on this device. A GPU keeps what all items show, unless that is much, and looks them up itself."""
        if device.type == "cpu" or self._n_bytes() > MOST_KEPT:
            return sent(self.inputs(index), device)
        return all_inputs(self, device)[sent(index, device)]

    def _n_bytes(self) -> int:
        """Of what all items show."""
        form = self.form
        size = 4 * form.width if isinstance(form, Vectors) else 8 * self.item_length * form.at_once
        return size * len(self.factors())

    def images(self, index: Tensor) -> npt.NDArray[np.uint8] | None:
        """(..., height, width, 3): pictures of these items for people to look at, where there are any."""
        del index
        return None

    def texts(self) -> tuple[str, ...] | None:
        """N texts: the items for people to read, where they are words or sentences."""
        return None

    def split(self, name: Split) -> Tensor:
        """(n,) int64: the indices of the items in one half of the split; the halves share no item.

        Where no items are held out, ``train`` has all items.
        """
        train, test = split_indices(len(self.factors()), self.test_fraction, self.split_seed)
        if name == "test":
            return test
        return train if self.holds_out_items else torch.arange(len(self.factors()))


@lru_cache(maxsize=4)
def all_inputs(source: ItemSource, device: torch.device) -> Tensor:
    """(N, ...): what a model reads of all items of this source, on this device."""
    return sent(source.inputs(torch.arange(len(source.factors()))), device)


@lru_cache(maxsize=32)
def factor_table(sizes: tuple[int, ...], copies: int = 1) -> Tensor:
    """(N, F) int64: every combination of factor values, so many times each; mixed-radix order, last factor fastest."""
    combinations = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
    return combinations.repeat_interleave(copies, dim=0)


def table_bytes(sizes: tuple[int, ...], copies: int = 1) -> int:
    """Of what :func:`factor_table` makes of these."""
    return 8 * len(sizes) * prod(sizes) * copies


def split_sizes(n_items: int, test_fraction: float) -> tuple[int, int]:
    """Numbers of train and test items in the split that :func:`split_indices` makes."""
    n_test = max(1, round(n_items * test_fraction))
    return max(0, n_items - n_test), min(n_items, n_test)


@lru_cache(maxsize=32)
def split_indices(n_items: int, test_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """The indices (n,) of train and test items, each sorted; at least one is held out."""
    order = torch.randperm(n_items, generator=fold(seed, "split"))
    n_test = split_sizes(n_items, test_fraction)[1]
    return order[n_test:].sort().values, order[:n_test].sort().values
