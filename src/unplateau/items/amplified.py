"""Items in which some factors are written larger than they were: a dose of standing out, for experiments."""

from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.errors import suggest
from unplateau.items.base import ItemSource
from unplateau.layout import Split, Vectors
from unplateau.rng import fold


class Amplified(ItemSource):
    """The vectors of another source, in which the effects of some factors are ``gain`` times what they were.

    The effect of a value is the mean of its train items less that of all. Vectors are then scaled so that their mean
    square is what it was: only the share of these factors grows. The split is that of the other source.
    """

    source: ItemSource = Field(description="where the items come from; they must be vectors")
    factors_amplified: tuple[str, ...] = Field(min_length=1, description="names of the factors")
    gain: float = Field(2.0, gt=0, description="factor of their effects; 1 changes nothing")
    control: bool = Field(False, description="the effects of another item's values are added, drawn once for each item")

    @model_validator(mode="after")
    def _factors_exist(self) -> "Amplified":
        for name in self.factors_amplified:
            if name not in self.source.factor_names:
                raise ValueError(f"unknown factor '{name}'{suggest(name, self.source.factor_names)}")
        return self

    def check(self) -> None:
        """Tokens have no directions."""
        if not isinstance(self.source.form, Vectors):
            raise ValueError(f"{type(self.source).__name__} writes its items in tokens, which cannot be amplified")

    def data_bytes(self) -> int:
        """Of the vectors, in float64 while they are made; those of the other source come on top."""
        sizes = self.source.factor_sizes if self.source.data_bytes() else ()
        return 8 * self.form.width * prod(sizes) if sizes and isinstance(self.source.form, Vectors) else 0

    @property
    def factor_names(self) -> tuple[str, ...]:
        """As the other source has them."""
        return self.source.factor_names

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """As the other source has them."""
        return self.source.factor_sizes

    @property
    def form(self) -> Vectors:
        """Vectors of the same length."""
        form = self.source.form
        assert isinstance(form, Vectors)
        return form

    @property
    def holds_out_items(self) -> bool:
        """As the other source."""
        return self.source.holds_out_items

    def factors(self) -> Tensor:
        """(N, F): as the other source has them."""
        return self.source.factors()

    def split(self, name: Split) -> Tensor:
        """As the other source."""
        return self.source.split(name)

    def vectors(self, index: Tensor) -> Tensor:
        """(..., width) float32."""
        return _amplified(self)[index]

    def images(self, index: Tensor) -> npt.NDArray[np.uint8] | None:
        """Those of the other source."""
        return self.source.images(index)


@lru_cache(maxsize=32)
def _amplified(amplified: Amplified) -> Tensor:
    """(N, width), made in float64."""
    source, train = amplified.source, amplified.source.split("train")
    factors = source.factors()
    vectors = source.vectors(torch.arange(len(factors))).double()
    mean = vectors[train].mean(0)
    told = factors
    if amplified.control:
        told = factors[torch.randperm(len(factors), generator=fold(amplified.split_seed, "values of other items"))]
    added = torch.zeros_like(vectors)
    for name in amplified.factors_amplified:
        factor = source.factor_names.index(name)
        of_train, size = factors[train, factor], source.factor_sizes[factor]
        members = torch.nn.functional.one_hot(of_train, size).to(vectors)  # (n, V)
        effects = members.T @ (vectors[train] - mean) / members.sum(0).clamp_min(1)[:, None]
        added += (amplified.gain - 1) * effects[told[:, factor]]
    apart = vectors - mean + added
    scale = (vectors[train] - mean).square().mean() / apart[train].square().mean()
    return (mean + apart * scale.sqrt()).float()
