"""Items without pictures: factors written into vectors by a fixed random network.

A linear read-out tells the factors badly and a small network tells them well, so the weights have something to learn.
The cheapest source that shows the plateau.
"""

import math
from functools import lru_cache
from string import ascii_lowercase

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator
from torch import Tensor

from unplateau.items.base import ItemSource, factor_table, table_bytes
from unplateau.layout import Vectors
from unplateau.rng import fold

PICTURE = 64
"""Height and width of a picture in pixels."""


class RandomCodes(ItemSource):
    """Codes ``B sin(A z)`` of z, the one-hot values of all factors, with fixed random A and B.

    Each combination of factor values comes in several copies, which differ by a nuisance in z that is no factor.
    """

    sizes: tuple[int, ...] = Field((4, 4, 4), description="number of values of each factor")
    width: int = Field(64, gt=0, description="length of a code")
    hidden: int = Field(12, gt=0, description="units of the random network; few hide factors from a linear read-out")
    twist: float = Field(
        1.5, gt=0, description="radians that a factor turns the sine by; small is linear, large is noise"
    )
    copies: int = Field(8, ge=1, description="items for each combination of factor values")
    nuisance: float = Field(0.1, ge=0, description="how much the copies differ, relative to a factor's effect")
    code_seed: int = Field(0, ge=0, description="seed of the random network and of the nuisance")

    @field_validator("sizes")
    @classmethod
    def _named_and_varying(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(sizes) <= len(ascii_lowercase) or min(sizes) < 2:
            raise ValueError(f"1 to 26 factors of at least 2 values each (got {list(sizes)})")
        return sizes

    @property
    def factor_names(self) -> tuple[str, ...]:
        """a, b, c, ..."""
        return tuple(ascii_lowercase[: len(self.sizes)])

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """As given."""
        return self.sizes

    @property
    def form(self) -> Vectors:
        """Codes."""
        return Vectors(self.width)

    def data_bytes(self) -> int:
        """Of the factors, and what the network reads and writes, in float64."""
        n_items, n_inputs = math.prod(self.sizes) * self.copies, sum(self.sizes)
        inside = n_inputs * (self.hidden + 2 * n_items) + self.hidden * (self.width + n_items) + self.width * n_items
        return table_bytes(self.sizes, self.copies) + 8 * inside

    def factors(self) -> Tensor:
        """(N, F) int64: mixed-radix order, last factor fastest; the copies of a combination follow each other."""
        return factor_table(self.sizes, self.copies)

    def vectors(self, index: Tensor) -> Tensor:
        """(..., width) float32: codes with zero mean and unit variance over all components and train items."""
        return _codes(self)[index]

    def images(self, index: Tensor) -> npt.NDArray[np.uint8]:
        """(..., 64, 64, 3): the code as stripes from left to right, red above zero and blue below."""
        stripes = torch.arange(PICTURE) * self.width // PICTURE
        value = (self.vectors(index)[..., stripes] / 2.5).clamp(-1, 1).numpy()
        colour = 1 - np.abs(value)[..., None] * np.where(value[..., None] > 0, (0, 1, 1), (1, 1, 0))
        rows = np.rint(colour * 255).astype(np.uint8)[..., None, :, :]
        return np.repeat(rows, PICTURE, axis=-3)


@lru_cache(maxsize=32)
def _codes(source: RandomCodes) -> Tensor:
    """(N, width); in float64 until the end, so that the number of threads does not show in the codes."""
    factors, generator = source.factors(), fold(source.code_seed, "random codes")
    n_inputs = sum(source.sizes)
    one_hot = torch.cat([torch.eye(n)[factors[:, f]] for f, n in enumerate(source.sizes)], dim=1).double()
    nuisance = torch.randn(one_hot.shape, generator=generator, dtype=torch.float64)
    enter = torch.randn(n_inputs, source.hidden, generator=generator, dtype=torch.float64) * source.twist
    leave = torch.randn(source.hidden, source.width, generator=generator, dtype=torch.float64)
    phase = torch.rand(source.hidden, generator=generator, dtype=torch.float64) * 2 * math.pi
    turned = one_hot + nuisance * source.nuisance / math.sqrt(n_inputs)
    codes = torch.sin(turned @ enter + phase) @ leave
    train = codes[source.split("train")]
    return ((codes - train.mean()) / train.std(correction=0)).float()
