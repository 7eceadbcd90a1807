"""What rendered and stored 3D Shapes share: a grid of factors, and encoders that turn images into item vectors.

What enters: pixels by index. What leaves: item vectors (pixels, principal components, or codes of a trained VAE).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.errors import DataError
from unplateau.tasks.shapes3d.cache import cache_path, load
from unplateau.tasks.shapes3d.grid import FACTORS, Grid, factor_table
from unplateau.tasks.source import ItemSource

Encoder = Literal["pixels", "pca", "vae"]
Pixels = npt.NDArray[np.float32]

DEFAULT_WIDTH = {"pca": 16, "vae": 768}


class ImageSource(ItemSource):
    """Images with the six factors of 3D Shapes, one for each combination in the grid, last factor fastest."""

    grid: Grid = Field(Grid(), description="values of each factor in use; all by default")
    encoder: Encoder = Field("pca", description="image to item vector: pixels, pca (closed form), vae (prepare first)")
    width: int | None = Field(None, gt=0, description="length of an item vector; default 16 for pca, 768 for vae")
    scale: float = Field(0.7, gt=0, description="standard deviation of each pca component over the train images")

    @model_validator(mode="after")
    def _pixels_have_their_own_width(self) -> Self:
        if self.encoder == "pixels" and self.width is not None:
            raise ValueError("width: pixels have the width that image_size gives; leave it out")
        return self

    @property
    @abstractmethod
    def _sizes_and_pixels(self) -> tuple[tuple[int, ...], int]:
        """Sizes of the six factors in use, and the height and width of an image in pixels."""

    @abstractmethod
    def pixels(self, index: Tensor) -> Pixels:
        """(..., height, width, 3) float32 in [0, 1]: the images that the encoders read."""

    @abstractmethod
    def components(self, index: Tensor) -> Tensor:
        """(n, width) float32: principal components of the images with these indices (n,), fitted and cached once."""

    @property
    def _cache_key(self) -> list[str]:
        """Everything that the codes depend on."""
        return [self.digest()]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The six factors of 3D Shapes."""
        return FACTORS

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values in use of each factor."""
        return self._sizes_and_pixels[0]

    @property
    def item_width(self) -> int:
        """Length of an item vector."""
        if self.encoder == "pixels":
            return 3 * self._sizes_and_pixels[1] ** 2
        return self.width or DEFAULT_WIDTH[self.encoder]

    def factors(self) -> Tensor:
        """(N, 6) int64: the factor values of every item."""
        return _factors(self.factor_sizes)

    def vectors(self, index: Tensor) -> Tensor:
        """(..., item width) float32: see the encoder; :class:`DataError` if the VAE has not been prepared."""
        flat = index.reshape(-1)
        if self.encoder == "pixels":
            codes = torch.from_numpy(self.pixels(flat) - np.float32(0.5))
        elif self.encoder == "pca":
            codes = self.components(flat)
        else:
            codes = vae_codes(self.cache_file)[flat].float()
        return codes.reshape(*index.shape, self.item_width)

    def images(self, index: Tensor) -> npt.NDArray[np.uint8]:
        """(..., height, width, 3): pictures of these items for people to look at."""
        return np.rint(self.pixels(index) * 255).astype(np.uint8)

    def reader(self) -> Callable[[Tensor], Pixels]:
        """``pixels`` for reading every image many times; may load them all first."""
        return self.pixels

    @property
    def cache_file(self) -> Path:
        """Where the codes of this encoder are kept, with all that was learned to make them."""
        return cache_path(f"shapes3d-{self.encoder}", self._cache_key)


@lru_cache(maxsize=8)
def _factors(sizes: tuple[int, ...]) -> Tensor:
    return factor_table(sizes)


@lru_cache(maxsize=2)
def vae_codes(path: Path) -> Tensor:
    """(N, width) float16; an unprepared VAE raises and so is not remembered."""
    arrays = load(path)
    if arrays is None:
        raise DataError(
            "encoder 'vae': no trained VAE in the cache for these images; run: unplateau prepare shapes3d --encoder vae"
        )
    return torch.from_numpy(arrays["codes"])
