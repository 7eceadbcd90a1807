"""3D Shapes, rendered: a stand-in with the same six factors and value grids as DeepMind's data set, no download."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from unplateau.cache import Arrays, cache_path, cached
from unplateau.items.base import table_bytes
from unplateau.items.shapes3d.images import Grid, ImageSource, Pixels
from unplateau.items.shapes3d.pca import Array, axes_of_passes, rounded
from unplateau.items.shapes3d.scene import ORIENTATIONS, SCALES, SURFACES, render

HUES = np.array([colorsys.hsv_to_rgb(tenth / 10, 1, 1) for tenth in range(10)], dtype=np.float32)
"""(10, 3): colours of floor, wall and object, RGB in [0, 1]."""

SKY = np.array([153, 226, 249], dtype=np.float32) / 255

Kept = tuple[tuple[int, ...], ...]


TABLE = 2**22
"""Numbers of which a table of all codes is kept at most (16 MB)."""


class Shapes3D(ImageSource):
    """Rendered images of one object in a room (after Burgess and Kim 2018); 480,000 on the whole grid.

    Principal components are exact for the whole train split. They are a sum of four parts (sky, floor, wall, object),
    each known for every geometry and colour, so that no table of all items is needed.
    """

    image_size: int = Field(64, ge=4, le=256, description="height and width of an image in pixels")

    @classmethod
    def small(cls) -> Shapes3D:
        """5,120 images of 32 x 32 pixels in 16 components: shows the plateau on two cores."""
        return cls(image_size=32, grid=Grid.small())

    def data_bytes(self) -> int:
        """Of the factors, the maps of all geometries, and their parts of a code."""
        n_maps = _n_passes(self.grid.kept())
        width = 0 if self.encoder == "pixels" else self.form.width
        codes = 2 * prod(self.factor_sizes) * width if self.encoder == "vae" else 0
        return codes + table_bytes(self.factor_sizes) + 4 * n_maps * (4 * self.image_size**2 + width)

    @property
    def _sizes_and_pixels(self) -> tuple[tuple[int, ...], int]:
        return tuple(len(values) for values in self.grid.kept()), self.image_size

    def pixels(self, index: Tensor) -> Pixels:
        """(..., height, width, 3) float32 in [0, 1]: the maps of each surface times its colour, added up."""
        kept = self.grid.kept()
        flat, n_passes = index.reshape(-1).numpy(), _n_passes(kept)
        maps = geometry_passes(self.image_size, kept)[flat % n_passes].reshape(len(flat), len(SURFACES), -1)
        images: Pixels = maps.swapaxes(1, 2) @ _colours(kept)[flat // n_passes]  # (n, H W, 4) @ (n, 4, 3)
        return images.reshape(*index.shape, self.image_size, self.image_size, 3)

    def components(self, index: Tensor) -> Tensor:
        """(n, width) float32: principal components of the images with these indices (n,), fitted and cached once."""
        table = _code_table(self)
        return self.summed(index) if table is None else table[index]

    def summed(self, index: Tensor) -> Tensor:
        """The same, added up from the parts of each image."""
        floor, wall, thing, *_ = self.factors()[index].unbind(-1)
        passes = index % _n_passes(self.grid.kept())
        parts = _code_parts(self)
        room = parts["sky"][passes] + parts["floor"][passes, floor] + parts["wall"][passes, wall]
        return room + parts["object"][passes, thing]


@lru_cache(maxsize=4)
def geometry_passes(image_size: int, kept: Kept) -> npt.NDArray[np.float32]:
    """(G, 4, image_size, image_size): the passes of all sizes, shapes and angles in use, last fastest; cached."""
    geometry = kept[3:]

    def build() -> Arrays:
        passes = [render(image_size, SCALES[s], shape, ORIENTATIONS[o]) for s, shape, o in product(*geometry)]
        return {"maps": np.stack(passes)}

    return cached(cache_path("shapes3d-passes", [image_size, geometry]), build)["maps"]


@lru_cache(maxsize=8)
def _colours(kept: Kept) -> npt.NDArray[np.float32]:
    """(floor x wall x object hues, 4, 3): RGB of sky, floor, wall and object."""
    hues = [[SKY, HUES[floor], HUES[wall], HUES[thing]] for floor, wall, thing in product(*kept[:3])]
    return np.array(hues, dtype=np.float32)


def _n_passes(kept: Kept) -> int:
    return len(kept[3]) * len(kept[4]) * len(kept[5])


@lru_cache(maxsize=8)
def _code_table(source: Shapes3D) -> Tensor | None:
    """(items, width), of grids that are small enough; looking up is several times faster than adding up."""
    n_items = prod(source.factor_sizes)
    return source.summed(torch.arange(n_items)) if n_items * source.form.width <= TABLE else None


@lru_cache(maxsize=8)
def _code_parts(source: Shapes3D) -> dict[str, Tensor]:
    arrays = cached(source.cache_file, lambda: _fit(source))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _fit(source: Shapes3D) -> Arrays:
    """What each surface contributes to the components: (G, width) for the sky, (G, hues, width) for the others."""
    kept = source.grid.kept()
    maps = geometry_passes(source.image_size, kept)
    train = source.split("train")
    axes = axes_of_passes(maps, *_colour_sums(train, kept), len(train), source.form.width)
    flat = maps.reshape(-1, source.image_size**2).astype(np.float64)  # (4G, HW)
    directions = axes.directions.reshape(-1, 3 * source.form.width) * source.scale  # (HW, 3 width)
    projected = (flat @ directions).reshape(len(maps), len(SURFACES), 3, -1)  # (G, 4, 3, width)
    offset = source.scale * axes.mean @ axes.directions
    palettes = [SKY[None].astype(np.float64), *(HUES[list(hues)].astype(np.float64) for hues in kept[:3])]
    sky, *others = (hues @ projected[:, number] for number, hues in enumerate(palettes))
    return {name: rounded(part) for name, part in zip(SURFACES, (sky[:, 0] - offset, *others), strict=True)}


def _colour_sums(train: Tensor, kept: Kept) -> tuple[Array, Array]:
    """(G, 12) and (G, 12, 12): colours u of the train images, and u u^T, summed up for each geometry pass."""
    colours = _colours(kept).reshape(-1, 12).astype(np.float64)  # (M, 12)
    present = np.zeros((len(colours), _n_passes(kept)))
    present.reshape(-1)[train.numpy()] = 1.0
    squares = present.T @ (colours[:, :, None] * colours[:, None, :]).reshape(len(colours), -1)
    return present.T @ colours, squares.reshape(-1, 12, 12)
