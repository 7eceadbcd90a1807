"""3D Shapes, the real images: reads the user's own copy of DeepMind's ``3dshapes.h5``."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from unplateau.cache import Arrays, cached
from unplateau.errors import DataError, missing_extra
from unplateau.items.shapes3d.images import FACTORS, ImageSource, Pixels
from unplateau.items.shapes3d.pca import axes_of_images, rounded
from unplateau.rng import fold

MD5 = "099a2078d58cec4daad0702c55d06868"
"""Of the 3dshapes.h5 that DeepMind published."""

FIT_IMAGES = 4096
"""Most train images that the principal axes are fitted to: half a gigabyte at 64 x 64 pixels."""

BLOCK = 1024
"""Fewest rows read at once when many are wanted: the published file is compressed in blocks."""


@dataclass(frozen=True)
class StoredGrid:
    """``sizes`` of the six factors, ``image_size`` in pixels, ``rows`` (N,): where each combination is stored."""

    sizes: tuple[int, ...]
    image_size: int
    rows: npt.NDArray[np.int64]


class Shapes3DFile(ImageSource):
    """Images from a file laid out like ``3dshapes.h5`` (Burgess and Kim 2018): datasets ``images`` and ``labels``.

    The values of a factor are numbered by rank, so any set of them works as long as the labels form a full grid. A
    file that is missing, truncated or foreign raises :class:`DataError` when it is first read.
    """

    path: Path = Field(description="path of 3dshapes.h5, which you supply")

    def verify(self) -> None:
        """Reads the whole file and raises :class:`DataError` unless it is DeepMind's, byte for byte."""
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        if found != MD5:
            raise DataError(f"{self.path}: MD5 is {found}, that of the published 3dshapes.h5 is {MD5}")

    @property
    def _sizes_and_pixels(self) -> tuple[tuple[int, ...], int]:
        layout = self._layout()
        return tuple(len(values) for values in self.grid.kept(layout.sizes)), layout.image_size

    @property
    def _cache_key(self) -> list[str]:
        """The file's size and time stand for its content."""
        return [self.digest(), *(str(part) for part in _stamp(self.path))]

    def pixels(self, index: Tensor) -> Pixels:
        """(..., height, width, 3) float32 in [0, 1]: the stored images."""
        return self.images(index).astype(np.float32) / np.float32(255)

    def images(self, index: Tensor) -> npt.NDArray[np.uint8]:
        """(..., height, width, 3): the stored images."""
        images = _read(self.path, self._rows()[index.reshape(-1).numpy()])
        return images.reshape(*index.shape, *images.shape[1:])

    def reader(self) -> Callable[[Tensor], Pixels]:
        """``pixels`` from memory: 6 GB for the published file, 64 MB for the small grid."""
        images = self.images(torch.arange(len(self._rows())))
        return lambda index: images[index.numpy()].astype(np.float32) / np.float32(255)

    def components(self, index: Tensor) -> Tensor:
        """(n, width) float32: principal components of the images with these indices (n,), fitted and cached once."""
        return _codes(self, _stamp(self.path))[index]

    def _layout(self) -> StoredGrid:
        return _layout(self.path, _stamp(self.path))

    def _rows(self) -> npt.NDArray[np.int64]:
        layout = self._layout()
        every = layout.rows.reshape(layout.sizes)
        return every[np.ix_(*self.grid.kept(layout.sizes))].ravel()


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of last change: what a cached reading of the file depends on."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); give the path of your 3dshapes.h5") from error
    if not path.is_file():
        raise DataError(f"{path}: cannot be read (it is no file); give the path of your 3dshapes.h5")
    return status.st_size, status.st_mtime_ns


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open HDF5 file; whatever the library reports about its content becomes one clear line."""
    try:
        import h5py  # noqa: PLC0415 (an extra)

        with h5py.File(path, "r", rdcc_nbytes=2**26) as file:
            yield file
    except ImportError as error:
        raise missing_extra("Shapes3DFile needs h5py", "h5") from error
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path}: not a whole HDF5 file (is the download complete? 3dshapes.h5 has MD5 {MD5})"
        ) from error


@lru_cache(maxsize=4)
def _layout(path: Path, stamp: tuple[int, int]) -> StoredGrid:  # noqa: ARG001 (the stamp renews the cache)
    with _opened(path) as file:
        import h5py  # noqa: PLC0415 (an extra; _opened says so if it is missing)

        for name in ("images", "labels"):
            if not isinstance(file.get(name), h5py.Dataset):
                raise DataError(f"{path}: no dataset '{name}'; 3dshapes.h5 has 'images' and 'labels'")
        _check_shapes(path, file["images"], file["labels"])
        labels = np.asarray(file["labels"][()])
        image_size = int(file["images"].shape[1])
    sizes, rows = _grid_of(path, labels)
    return StoredGrid(sizes, image_size, rows)


def _check_shapes(path: Path, images: Any, labels: Any) -> None:
    square = len(images.shape) == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if not square or images.dtype != np.uint8:
        found = f"{images.shape} {images.dtype}"
        raise DataError(f"{path}: 'images' is {found}; it should be (N, size, size, 3) uint8")
    if labels.shape != (images.shape[0], len(FACTORS)) or labels.dtype.kind != "f":
        found = f"{labels.shape} {labels.dtype}"
        raise DataError(f"{path}: 'labels' is {found}; it should be ({images.shape[0]}, {len(FACTORS)}) float64")


def _grid_of(path: Path, labels: npt.NDArray[np.float64]) -> tuple[tuple[int, ...], npt.NDArray[np.int64]]:
    """Sizes of the factors and the row of each combination; the file's README gives other values than the file."""
    ranked = [np.unique(column.round(6), return_inverse=True) for column in labels.T]
    sizes = tuple(len(values) for values, _ in ranked)
    if np.prod(sizes, dtype=np.float64) != len(labels):
        shown = " x ".join(str(size) for size in sizes)
        raise DataError(f"{path}: {len(labels)} labels are not a full grid of the {shown} values found in them")
    place = np.ravel_multi_index([ranks for _, ranks in ranked], sizes)
    rows = np.argsort(place)
    if not np.array_equal(place[rows], np.arange(len(labels))):
        raise DataError(f"{path}: labels are not a full grid; some combinations of factor values come twice")
    return sizes, rows


def _read(path: Path, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(n, size, size, 3): stored images in any order, reading each block of the file once."""
    wanted, position = np.unique(rows, return_inverse=True)
    with _opened(path) as file:
        images = file["images"]
        per_block = -(-BLOCK // (images.chunks or (1,))[0]) * (images.chunks or (1,))[0]
        found = np.empty((len(wanted), *images.shape[1:]), dtype=np.uint8)
        starts = np.flatnonzero(np.diff(wanted // per_block, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            first, last = wanted[start], wanted[stop - 1]
            found[start:stop] = images[first : last + 1][wanted[start:stop] - first]
    return found[position]


@lru_cache(maxsize=4)
def _codes(source: Shapes3DFile, stamp: tuple[int, int]) -> Tensor:  # noqa: ARG001 (the stamp renews the cache)
    return torch.from_numpy(cached(source.cache_file, lambda: _fit(source))["codes"])


def _fit(source: Shapes3DFile) -> Arrays:
    """(N, width) codes: axes from a fixed sample of the train images, variance from all of them."""
    train = source.split("train")
    chosen = torch.randperm(len(train), generator=fold(source.split_seed, "pca images"))[:FIT_IMAGES]
    images = source.pixels(train[chosen]).reshape(len(chosen), -1).astype(np.float64)
    axes = axes_of_images(images, source.form.width)
    offset = axes.mean @ axes.directions
    chunks = torch.arange(len(source.factors())).split(FIT_IMAGES)
    codes = np.concatenate(
        [source.pixels(chunk).reshape(len(chunk), -1) @ axes.directions - offset for chunk in chunks]
    )
    return {"codes": rounded(codes / codes[train.numpy()].std(axis=0) * source.scale)}
