"""Which values of the six factors are used: the whole grid of 3D Shapes or a part of it.

What enters: per factor the indices to keep. What leaves: sizes and index tables. Small grids make the plateau and its
end visible on two cores.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor

from unplateau.config import Config
from unplateau.errors import SpecError

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
        return tuple(self._kept_of(name, size) for name, size in zip(FACTORS, sizes, strict=True))

    def _kept_of(self, name: str, size: int) -> tuple[int, ...]:
        values: Values = getattr(self, name)
        if values is None:
            return tuple(range(size))
        if values[-1] >= size:
            raise SpecError(f"grid.{name}: index {values[-1]} does not exist; it goes from 0 to {size - 1}")
        return values


def factor_table(sizes: tuple[int, ...]) -> Tensor:
    """(N, F) int64: every combination of factor values in mixed-radix order, last factor fastest."""
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
