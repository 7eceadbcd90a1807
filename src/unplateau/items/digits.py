"""Real images that need no download: scikit-learn's 1,797 scans of handwritten digits (Alpaydin and Kaynak 1998)."""

from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unplateau.errors import missing_extra
from unplateau.items.base import ItemSource
from unplateau.layout import Vectors


class Digits(ItemSource):
    """Handwritten digits; an item vector is the 64 pixels, centred and scaled on the train split."""

    factor_names: ClassVar[tuple[str, ...]] = ("class",)
    factor_sizes: ClassVar[tuple[int, ...]] = (10,)
    form: ClassVar[Vectors] = Vectors(64)

    def factors(self) -> Tensor:
        """(1797, 1) int64: the digit of every image."""
        return _scans()[1]

    def vectors(self, index: Tensor) -> Tensor:
        """(..., 64) float32: zero mean per pixel and mean variance 1 over the train images."""
        return _standardised(self)[index]

    def images(self, index: Tensor) -> npt.NDArray[np.uint8]:
        """(..., 32, 32, 3): the scans, enlarged, white ink on black."""
        grey = (_scans()[0][index].numpy() * (255 / 16)).round().astype(np.uint8).reshape(*index.shape, 8, 8, 1)
        return grey.repeat(4, axis=-3).repeat(4, axis=-2).repeat(3, axis=-1)


@lru_cache(maxsize=1)
def _scans() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64) from 0 to 16 and digits (1797, 1)."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise missing_extra("Digits needs scikit-learn", "digits") from error
    scans = load_digits()
    digits = torch.from_numpy(scans.target.astype(np.int64))
    return torch.from_numpy(scans.data.astype(np.float32)), digits[:, None]


@lru_cache(maxsize=8)
def _standardised(source: Digits) -> Tensor:
    # One scale for all pixels: some are blank in every scan and have no variance of their own.
    pixels = _scans()[0]
    train = pixels[source.split("train")]
    spread = train.var(dim=0, correction=0).mean().sqrt()
    return (pixels - train.mean(dim=0)) / spread
