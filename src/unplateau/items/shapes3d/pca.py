"""Principal components without ever forming a covariance matrix: a product of it with a vector is enough.

Exact for 384,000 rendered images, since that product only needs the geometry passes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unplateau.errors import SpecError

Array = npt.NDArray[np.float64]

CODE_STEP = 2.0**-14
"""Codes are rounded to multiples of this, so that the last bits of a BLAS do not show; sums of a few stay exact."""


class Axes(NamedTuple):
    """``mean`` (P,) of the images and ``directions`` (P, width) that give every component unit variance."""

    mean: Array
    directions: Array


def principal_axes(covariance: Callable[[Array], Array], mean: Array, width: int) -> Axes:
    """The ``width`` leading axes, scaled to unit variance; signs make each one's largest entry positive.

    Raises :class:`SpecError` if the images vary along fewer than ``width`` axes.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # noqa: PLC0415 (only needed where nothing is cached)

    n_pixels = len(mean)
    if width >= n_pixels:
        raise SpecError(f"width {width}: an image has {n_pixels} numbers; pca needs fewer components than that")
    operator = LinearOperator((n_pixels, n_pixels), matvec=covariance, dtype=np.float64)
    start = np.cos(np.arange(1, n_pixels + 1))  # fixed, so that the same images always give the same axes
    if not covariance(start).any():
        raise SpecError(f"width {width}: all train images are the same; pca needs some that differ")
    variances, axes = eigsh(operator, k=width, which="LA", v0=start)
    variances, axes = variances[::-1], axes[:, ::-1]
    n_varying = int((variances > variances[0] * 1e-9).sum()) if variances[0] > 0 else 0
    if n_varying < width:
        raise SpecError(f"width {width}: the train images vary along {n_varying} axes only; choose at most that many")
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    return Axes(mean, axes * (signs / np.sqrt(variances)))


def axes_of_images(images: Array, width: int) -> Axes:
    """Axes of these images (n, P)."""
    mean = images.mean(axis=0, dtype=np.float64)

    def covariance(vector: Array) -> Array:
        # Centring the products instead of the images saves a copy of them.
        weights = images @ vector - mean @ vector
        return np.asarray((weights @ images - weights.sum() * mean) / len(images))

    return principal_axes(covariance, mean, width)


def axes_of_passes(maps: npt.NDArray[np.float32], totals: Array, squares: Array, n_images: int, width: int) -> Axes:
    """Axes of ``n_images`` images that combine these geometry passes (G, 4, H, W) with colours.

    A colour vector u holds the RGB of sky, floor, wall, object (12 numbers). Summed over the images of each pass:
    ``totals`` (G, 12) of u, ``squares`` (G, 12, 12) of u u^T.
    """
    n_passes, n_surfaces = maps.shape[:2]
    flat = maps.reshape(n_passes * n_surfaces, -1).astype(np.float64)  # (4G, HW)
    mean = flat.T @ totals.reshape(len(flat), 3) / n_images  # (HW, 3)

    def covariance(vector: Array) -> Array:
        image = vector.reshape(mean.shape)
        shares = (flat @ image).reshape(n_passes, -1, 1)  # (G, 12, 1)
        weights = (squares @ shares).reshape(len(flat), 3) / n_images
        return np.asarray(flat.T @ weights - mean * (mean * image).sum()).ravel()

    return principal_axes(covariance, mean.ravel(), width)


def rounded(codes: Array) -> npt.NDArray[np.float32]:
    """Codes as float32 multiples of ``CODE_STEP``."""
    return (np.round(codes / CODE_STEP) * CODE_STEP).astype(np.float32)
