"""What rendered and stored 3D Shapes share: a grid of factors, and encoders that turn images into item vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from unplateau.cache import cache_path, load_arrays
from unplateau.config import Config
from unplateau.errors import DataError, SpecError
from unplateau.items.base import ItemSource, factor_table
from unplateau.layout import Vectors

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")

FULL_SIZES = (10, 10, 10, 8, 4, 15)
"""Sizes of the six factors in 3D Shapes (Burgess and Kim 2018)."""

Values = tuple[int, ...] | None


class Grid(Config):
    """The values of each factor that are used, as increasing indices; ``None`` keeps them all."""

    floor_hue: Values = Field(None, description="indices of the floor hues to keep, out of 10 (tenths of the circle)")
    wall_hue: Values = Field(None, description="indices of the wall hues to keep, out of 10 (tenths of the circle)")
    object_hue: Values = Field(None, description="indices of the object hues to keep, out of 10 (tenths of the circle)")
    scale: Values = Field(None, description="indices of the object sizes to keep, out of 8 (0.75 to 1.25)")
    shape: Values = Field(None, description="indices of the shapes to keep: 0 cube, 1 cylinder, 2 sphere, 3 capsule")
    orientation: Values = Field(None, description="indices of the camera angles to keep, out of 15 (-30 to 30 degrees)")

    @classmethod
    def small(cls) -> Grid:
        """4 x 4 x 4 hues, 4 sizes, 4 shapes, 5 angles: 5,120 images."""
        hues = (0, 2, 5, 7)
        return cls(floor_hue=hues, wall_hue=hues, object_hue=hues, scale=(0, 2, 5, 7), orientation=(0, 4, 7, 10, 14))

    @field_validator(*FACTORS)
    @classmethod
    def _increasing(cls, values: Values) -> Values:
        if values is not None and (not values or values[0] < 0 or list(values) != sorted(set(values))):
            raise ValueError(f"indices must be increasing, from 0 up, and at least one (got {list(values)})")
        return values

    def kept(self, sizes: tuple[int, ...] = FULL_SIZES) -> tuple[tuple[int, ...], ...]:
        """The indices in use of each factor, out of ``sizes``; :class:`SpecError` if one does not exist."""
        chosen: list[tuple[int, ...]] = []
        for name, size in zip(FACTORS, sizes, strict=True):
            values: Values = getattr(self, name)
            if values is not None and values[-1] >= size:
                raise SpecError(f"grid.{name}: index {values[-1]} does not exist; it goes from 0 to {size - 1}")
            chosen.append(tuple(range(size)) if values is None else values)
        return tuple(chosen)


Encoder = Literal["pixels", "pca", "vae"]

Pixels = npt.NDArray[np.float32]


class ImageSource(ItemSource):
    """Images with the six factors of 3D Shapes, one for each combination in the grid, last factor fastest."""

    factor_names: ClassVar[tuple[str, ...]] = FACTORS

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
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values in use of each factor."""
        return self._sizes_and_pixels[0]

    @property
    def form(self) -> Vectors:
        """Pixels, or a code."""
        if self.encoder == "pixels":
            return Vectors(3 * self._sizes_and_pixels[1] ** 2)
        return Vectors(self.width or {"pca": 16, "vae": 768}[self.encoder])

    def factors(self) -> Tensor:
        """(N, 6) int64: the factor values of every item."""
        return factor_table(self.factor_sizes)

    def vectors(self, index: Tensor) -> Tensor:
        """(..., code width) float32: see the encoder; :class:`DataError` if the VAE has not been prepared."""
        flat = index.reshape(-1)
        if self.encoder == "pixels":
            codes = torch.from_numpy(self.pixels(flat) - np.float32(0.5))
        elif self.encoder == "pca":
            codes = self.components(flat)
        else:
            codes = vae_codes(self.cache_file)[flat].float()
        return codes.reshape(*index.shape, self.form.width)

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


@lru_cache(maxsize=2)
def vae_codes(path: Path) -> Tensor:
    """(N, width) float16; an unprepared VAE raises and so is not remembered."""
    arrays = load_arrays(path)
    if arrays is None:
        raise DataError(
            "encoder 'vae': no trained VAE in the cache for these images; run: unplateau prepare shapes3d --encoder vae"
        )
    return torch.from_numpy(arrays["codes"])
