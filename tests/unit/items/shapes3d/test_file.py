from __future__ import annotations

import builtins
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unplateau.errors import DataError, MissingExtraError
from unplateau.items.base import ItemSource
from unplateau.items.shapes3d import file as file_module
from unplateau.items.shapes3d.file import Shapes3DFile
from unplateau.items.shapes3d.images import Grid
from unplateau.items.shapes3d.rendered import Shapes3D

h5py = pytest.importorskip("h5py", reason="needs h5py (extra h5)")

GRID = Grid(floor_hue=(0, 3), wall_hue=(1, 5), object_hue=(2, 4, 9), scale=(0, 7), shape=(0, 2, 3), orientation=(0, 7))
RENDERED = Shapes3D(image_size=8, grid=GRID, width=4)
N = 144
EVERY = torch.arange(N)


def _contents() -> dict[str, Any]:
    values = [np.linspace(-30, 30, 15), np.arange(4.0), np.linspace(0.75, 1.25, 8), *[np.arange(10) / 10] * 3][::-1]
    kept = [values[f][list(indices)] for f, indices in enumerate(GRID.kept())]
    labels = np.stack([kept[f][ranks] for f, ranks in enumerate(RENDERED.factors().T.numpy())], axis=1)
    return {"images": RENDERED.images(EVERY), "labels": labels}


def write(path: Path, **options: Any) -> Path:
    contents = _contents() | options
    with h5py.File(path, "w") as file:
        for name, array in contents.items():
            if array is not None:
                file.create_dataset(name, data=array, chunks=(7, *array.shape[1:]) if len(array) > 7 else None)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("h5") / "3dshapes.h5")


def test_items_are_those_that_were_written(path: Path) -> None:
    source = Shapes3DFile(path=path, width=4)
    assert source.factor_sizes == RENDERED.factor_sizes
    assert source.factor_names == RENDERED.factor_names
    assert torch.equal(source.factors(), RENDERED.factors())
    assert np.array_equal(source.images(EVERY), RENDERED.images(EVERY))
    index = torch.tensor([[100, 3], [3, 50]])
    assert np.array_equal(source.images(index), RENDERED.images(index))


def test_a_part_of_the_grid(path: Path) -> None:
    source = Shapes3DFile(path=path, grid=Grid(object_hue=(0, 2), orientation=(1,)), encoder="pixels")
    assert source.factor_sizes == (2, 2, 2, 2, 3, 1)
    factors = RENDERED.factors()
    rows = EVERY[(factors[:, 2] != 1) & (factors[:, 5] == 1)]
    assert np.array_equal(source.images(torch.arange(len(rows))), RENDERED.images(rows))


def test_rows_in_any_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N)
    contents = _contents()
    shuffled = write(tmp_path / "x.h5", images=contents["images"][order], labels=contents["labels"][order])
    assert np.array_equal(Shapes3DFile(path=shuffled).images(EVERY), contents["images"])


@pytest.mark.parametrize("encoder", ["pca", "pixels"])
def test_a_vector_does_not_depend_on_its_batch(path: Path, encoder: Any) -> None:
    source = Shapes3DFile(path=path, encoder=encoder, width=4 if encoder == "pca" else None)
    together = source.vectors(EVERY)
    assert together.dtype == torch.float32
    alone = torch.stack([source.vectors(index) for index in EVERY[::10]])
    assert torch.equal(together[::10], alone)


def test_components_agree_with_the_rendered_ones(path: Path) -> None:
    # Equal up to what rounding to bytes does to the images.
    stored, rendered = Shapes3DFile(path=path, width=4).vectors(EVERY), RENDERED.vectors(EVERY)
    torch.testing.assert_close(stored.abs(), rendered.abs(), atol=0.02, rtol=0)
    spread = stored[RENDERED.split("train")].std(dim=0, correction=0)
    torch.testing.assert_close(spread, torch.full((4,), 0.7), atol=1e-3, rtol=0)


def test_changing_test_images_does_not_change_train_codes(path: Path, tmp_path: Path) -> None:
    contents = _contents()
    test, train = RENDERED.split("test"), RENDERED.split("train")
    contents["images"][test.numpy()] = 255 - contents["images"][test.numpy()]
    changed = Shapes3DFile(path=write(tmp_path / "x.h5", **contents), width=4)
    original = Shapes3DFile(path=path, width=4)
    assert torch.equal(changed.vectors(train), original.vectors(train))
    assert not torch.equal(changed.vectors(test), original.vectors(test))


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    contents = _contents()
    source = Shapes3DFile(path=write(tmp_path / "x.h5"), width=4)
    before = source.vectors(EVERY)
    # Not just larger or recoloured: components do not notice a rotation of all images.
    contents["images"] = (contents["images"] > 128).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    write(source.path, **contents)
    assert source.images(EVERY).shape[1:] == (16, 16, 3)
    assert not torch.equal(source.vectors(EVERY), before)


def test_the_reader_gives_the_same_pixels(path: Path) -> None:
    source = Shapes3DFile(path=path)
    assert np.array_equal(source.reader()(EVERY[::7]), source.pixels(EVERY[::7]))


def test_it_is_a_value(path: Path) -> None:
    source = Shapes3DFile(path=path, grid=Grid(shape=(0, 1)))
    assert ItemSource.model_validate(source.model_dump(mode="json")) == source
    assert hash(source)


BAD = {
    "no dataset 'labels'": {"labels": None},
    "no dataset 'images'": {"images": None},
    r"'images' is \(144, 8, 8, 3\) float64; it should be \(N, size, size, 3\) uint8": {
        "images": np.zeros((N, 8, 8, 3))
    },
    r"'images' is \(144, 8, 8\) uint8": {"images": np.zeros((N, 8, 8), dtype=np.uint8)},
    r"'labels' is \(144, 5\) float64; it should be \(144, 6\) float64": {"labels": np.zeros((N, 5))},
    r"'labels' is \(144, 6\) int64": {"labels": np.zeros((N, 6), dtype=np.int64)},
    r"144 labels are not a full grid of the 1 x 1 x 1 x 1 x 1 x 1 values": {"labels": np.zeros((N, 6))},
}


@pytest.mark.parametrize("message", BAD)
def test_a_foreign_file_is_named_in_one_line(tmp_path: Path, message: str) -> None:
    path = write(tmp_path / "x.h5", **BAD[message])
    with pytest.raises(DataError, match=message) as caught:
        Shapes3DFile(path=path).factors()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_combination_that_comes_twice(tmp_path: Path) -> None:
    labels = _contents()["labels"]
    labels[1] = labels[0]
    with pytest.raises(DataError, match="come twice"):
        Shapes3DFile(path=write(tmp_path / "x.h5", labels=labels)).factors()


def test_a_truncated_a_foreign_and_a_missing_file(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    for name, damaged in (("cut.h5", content[: len(content) // 2]), ("text.h5", b"not HDF5 at all"), ("empty.h5", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{name}: not a whole HDF5 file"):
            Shapes3DFile(path=tmp_path / name).factors()
    with pytest.raises(DataError, match=r"gone\.h5: cannot be read \(No such file"):
        Shapes3DFile(path=tmp_path / "gone.h5").factors()


def test_verify_reads_the_whole_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="MD5 is"):
        Shapes3DFile(path=path).verify()
    with pytest.raises(DataError, match="cannot be read"):
        Shapes3DFile(path=tmp_path / "gone.h5").verify()
    monkeypatch.setattr(file_module, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    Shapes3DFile(path=path).verify()


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.h5")
    found = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'unplateau\[h5\]'"):
        Shapes3DFile(path=path).factors()
