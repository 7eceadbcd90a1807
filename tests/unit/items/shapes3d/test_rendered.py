from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from unplateau.errors import SpecError
from unplateau.items.base import ItemSource
from unplateau.items.shapes3d import rendered
from unplateau.items.shapes3d.images import Encoder, Grid
from unplateau.items.shapes3d.rendered import HUES, SKY, Shapes3D, _code_parts, _code_table, geometry_passes

TINY = Grid(floor_hue=(0, 3), wall_hue=(1, 5), object_hue=(2, 4, 9), scale=(0, 7), shape=(0, 2, 3), orientation=(0, 7))
N_TINY = 2 * 2 * 3 * 2 * 3 * 2


def tiny(encoder: Encoder = "pca", width: int | None = None) -> Shapes3D:
    return Shapes3D(image_size=16, grid=TINY, encoder=encoder, width=width)


@pytest.mark.parametrize("source", [tiny(width=5), tiny("pixels")], ids=["pca", "pixels"])
def test_a_vector_does_not_depend_on_its_batch(source: Shapes3D) -> None:
    together = source.vectors(torch.arange(N_TINY))
    assert together.shape == (N_TINY, source.form.width)
    assert together.dtype == torch.float32
    alone = torch.stack([source.vectors(torch.tensor(index)) for index in range(N_TINY)])
    assert torch.equal(together, alone)
    shuffled = torch.randperm(N_TINY, generator=torch.Generator().manual_seed(0)).view(12, -1)
    assert torch.equal(source.vectors(shuffled), together[shuffled])


def test_factors_count_with_the_last_one_fastest() -> None:
    source = tiny()
    assert source.factor_sizes == (2, 2, 3, 2, 3, 2)
    assert len(source.factors()) == N_TINY
    assert source.factors()[0].tolist() == [0] * 6
    assert source.factors()[1].tolist() == [0, 0, 0, 0, 0, 1]
    assert len(source.factors().unique(dim=0)) == N_TINY


def test_the_split_is_disjoint_and_complete() -> None:
    train, test = tiny().split("train"), tiny().split("test")
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(N_TINY))
    assert len(test) == round(0.2 * N_TINY)


def test_images_tell_all_items_apart() -> None:
    images = tiny().images(torch.arange(N_TINY))
    assert images.shape == (N_TINY, 16, 16, 3)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(N_TINY, -1), axis=0)) == N_TINY


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 479_999))
def test_an_image_of_the_whole_grid_has_the_colours_of_its_factors(index: int) -> None:
    source = Shapes3D(image_size=16)
    floor, wall, thing, *_ = source.factors()[index].tolist()
    image = source.images(torch.tensor(index)).astype(float)
    assert image[0, 8].tolist() == [153, 226, 249]
    for pixel, hue in ((image[-1, 8], floor), (image[6, 0], wall), (image[10, 8], thing)):
        colour = np.array(colorsys.hsv_to_rgb(hue / 10, 1, 1))
        np.testing.assert_allclose(pixel / pixel.max(), colour, atol=0.03)


def test_the_whole_grid_has_480000_items() -> None:
    assert len(Shapes3D().factors()) == 480_000


def test_a_reduced_grid_shows_the_same_images_as_the_whole() -> None:
    small, whole = tiny(), Shapes3D(image_size=16)
    kept, sizes = TINY.kept(), whole.factor_sizes
    index = torch.tensor([0, 5, 77, N_TINY - 1])
    values = [[kept[f][v] for f, v in enumerate(row)] for row in small.factors()[index].tolist()]
    places = torch.from_numpy(np.ravel_multi_index(np.array(values).T.tolist(), sizes))
    assert np.array_equal(small.images(index), whole.images(places))


def test_colours_never_need_clipping() -> None:
    source = tiny()
    pixels = source.pixels(torch.arange(N_TINY))
    assert pixels.min() >= 0
    assert pixels.max() <= 1 + 1e-6
    assert geometry_passes(16, TINY.kept()).sum(axis=1).max() <= 1 + 1e-6
    assert HUES.max() <= 1
    assert SKY.max() <= 1


def _by_hand(source: Shapes3D) -> Tensor:
    """Principal components by a full singular value decomposition of the train images."""
    pixels = torch.from_numpy(source.pixels(torch.arange(N_TINY))).reshape(N_TINY, -1).double()
    train = pixels[source.split("train")]
    _, values, axes = torch.linalg.svd(train - train.mean(dim=0), full_matrices=False)
    spread = values[: source.form.width] / len(train) ** 0.5
    return (pixels - train.mean(dim=0)) @ axes[: source.form.width].T / spread * source.scale


def test_components_are_those_of_the_train_images() -> None:
    source = tiny(width=6)
    codes, expected = source.vectors(torch.arange(N_TINY)).double(), _by_hand(source)
    torch.testing.assert_close(codes.abs(), expected.abs(), atol=1e-3, rtol=0)
    train = codes[source.split("train")]
    torch.testing.assert_close(train.std(dim=0, correction=0), torch.full((6,), 0.7).double(), atol=1e-3, rtol=0)
    assert train.mean(dim=0).abs().max() < 1e-3


def test_the_fit_uses_the_train_images_alone() -> None:
    same, other = tiny(width=4), tiny(width=4).model_copy(update={"split_seed": 1})
    index = torch.arange(N_TINY)
    assert not torch.allclose(same.vectors(index).abs(), other.vectors(index).abs(), atol=1e-3)


def test_components_are_the_same_from_the_cache() -> None:
    source, index = tiny(width=3), torch.arange(N_TINY)
    first = source.vectors(index)
    assert source.cache_file.exists()
    _forget()
    assert torch.equal(source.vectors(index), first)
    source.cache_file.unlink()
    _forget()
    assert torch.equal(source.vectors(index), first)


def _forget() -> None:
    _code_parts.cache_clear()
    _code_table.cache_clear()


def test_codes_are_the_same_looked_up_and_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    source, index = tiny(width=3), torch.randint(N_TINY, (5, 7))
    looked_up = source.vectors(index)
    _forget()
    monkeypatch.setattr(rendered, "TABLE", 0)
    assert torch.equal(source.vectors(index), looked_up)
    _forget()


def _read_out(source: Shapes3D) -> dict[str, float]:
    """Held-out accuracy of a ridge classifier from the codes to every factor."""
    train, test = source.split("train"), source.split("test")
    design = torch.cat([source.vectors(torch.arange(5120)), torch.ones(5120, 1)], dim=1).double()
    gram = design[train].T @ design[train] + 1e-3 * torch.eye(design.shape[1])
    accuracy = {}
    for name, labels in zip(source.factor_names, source.factors().unbind(1), strict=True):
        weights = torch.linalg.solve(gram, design[train].T @ one_hot(labels[train]).double())
        accuracy[name] = ((design[test] @ weights).argmax(1) == labels[test]).double().mean().item()
    return accuracy


def test_a_linear_read_out_sees_hues_and_little_else() -> None:
    few, many = _read_out(Shapes3D.small()), _read_out(Shapes3D.small().model_copy(update={"width": 64}))
    for name in ("floor_hue", "wall_hue", "object_hue"):
        assert few[name] > 0.99
        assert many[name] > 0.99
    expected = {"scale": (0.37, 0.91), "shape": (0.40, 0.81), "orientation": (0.34, 1.00)}
    for name, (with_few, with_many) in expected.items():
        assert few[name] == pytest.approx(with_few, abs=0.05)
        assert many[name] == pytest.approx(with_many, abs=0.05)


def test_it_is_a_value() -> None:
    source = Shapes3D.small()
    assert hash(source) == hash(Shapes3D.small())
    assert ItemSource.model_validate(source.model_dump(mode="json")) == source
    assert source.digest() != Shapes3D().digest()


def test_pixels_have_their_own_width() -> None:
    assert tiny("pixels").form.width == 16 * 16 * 3
    assert Shapes3D(encoder="vae").form.width == 768
    with pytest.raises(SpecError, match="leave it out"):
        tiny("pixels", width=16)
