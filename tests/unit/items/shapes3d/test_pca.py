from __future__ import annotations

import numpy as np
import pytest

from unplateau.errors import SpecError
from unplateau.items.shapes3d.pca import CODE_STEP, Array, axes_of_images, rounded


def _images(n: int = 60, width: int = 20, rank: int = 6) -> Array:
    rng = np.random.default_rng(0)
    return 3 + rng.normal(size=(n, rank)) * np.arange(1, rank + 1) @ rng.normal(size=(rank, width))


def test_axes_are_those_of_the_singular_value_decomposition() -> None:
    images = _images()
    axes = axes_of_images(images, 4)
    codes = (images - axes.mean) @ axes.directions
    centred = images - images.mean(axis=0)
    expected = np.linalg.svd(centred)[0][:, :4] * np.sqrt(len(images))
    np.testing.assert_allclose(np.abs(codes), np.abs(expected), atol=1e-8)
    np.testing.assert_allclose(codes.T @ codes / len(images), np.eye(4), atol=1e-9)


def test_the_largest_entry_of_an_axis_is_positive() -> None:
    directions = axes_of_images(_images(), 4).directions
    assert np.all(directions[np.abs(directions).argmax(axis=0), range(4)] > 0)


def test_more_components_than_the_images_vary_along_are_refused() -> None:
    with pytest.raises(SpecError, match=r"width 8: the train images vary along 6 axes only"):
        axes_of_images(_images(), 8)
    with pytest.raises(SpecError, match=r"width 20: an image has 20 numbers"):
        axes_of_images(_images(), 20)
    with pytest.raises(SpecError, match="all train images are the same"):
        axes_of_images(np.ones((5, 20)), 2)


def test_rounded_codes_add_up_exactly() -> None:
    codes = rounded(np.random.default_rng(0).normal(size=(4, 100)))
    assert np.all(codes / CODE_STEP == np.round(codes / CODE_STEP))
    assert np.array_equal((codes[0] + codes[1]) + (codes[2] + codes[3]), codes[3] + (codes[2] + (codes[1] + codes[0])))
