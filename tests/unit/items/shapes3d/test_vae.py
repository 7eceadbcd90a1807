from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unplateau.cache import load_arrays
from unplateau.errors import DataError, SpecError, StorageError
from unplateau.items.shapes3d.images import Grid, vae_codes
from unplateau.items.shapes3d.rendered import Shapes3D
from unplateau.items.shapes3d.vae import Vae, loss_of, prepare, train_vae

GRID = Grid(floor_hue=(0, 3), wall_hue=(1, 5), object_hue=(2, 4), scale=(0, 3, 7), shape=(0, 2), orientation=(0, 7, 14))
VAE = Shapes3D(image_size=8, grid=GRID, encoder="vae", width=6)
N = 144
EVERY = torch.arange(N)


class Steps:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float]] = []

    def __call__(self, step: int, n_steps: int, loss: float) -> None:
        self.seen.append((step, n_steps, loss))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path))
    vae_codes.cache_clear()
    return tmp_path


def test_an_unprepared_vae_says_what_to_run(empty_cache: Path) -> None:
    with pytest.raises(DataError, match="run: unplateau prepare shapes3d --encoder vae"):
        VAE.vectors(EVERY)


def test_prepare_trains_once_and_keeps_the_codes(empty_cache: Path) -> None:
    steps = Steps()
    path = prepare(VAE, progress=steps, epochs=30)
    assert path == VAE.cache_file
    assert path.parent == empty_cache
    assert [(step, total) for step, total, _ in steps.seen] == [(k + 1, 30) for k in range(30)]
    assert steps.seen[-1][2] < 0.8 * steps.seen[0][2]
    codes = VAE.vectors(EVERY.view(12, 12))
    assert codes.shape == (12, 12, 6)
    assert codes.dtype == torch.float32
    assert codes.std() > 0.1
    again = Steps()
    prepare(VAE, progress=again, epochs=30)
    assert not again.seen
    prepare(VAE, progress=again, epochs=1)
    assert len(again.seen) == 1
    assert not torch.equal(VAE.vectors(EVERY), codes.view(N, 6))


def test_the_prepared_vae_makes_the_codes(empty_cache: Path) -> None:
    arrays = load_arrays(prepare(VAE, epochs=2))
    assert arrays is not None
    vae = Vae(8, 6)
    vae.load_state_dict({name: torch.from_numpy(arrays[f"vae.{name}"]) for name in vae.state_dict()})
    images = torch.from_numpy(VAE.pixels(EVERY))
    with torch.no_grad():
        codes, _ = vae.encode(images)
        decoded = vae.decode(codes)
    torch.testing.assert_close(codes, VAE.vectors(EVERY), atol=5e-3, rtol=5e-3)
    assert decoded.shape == images.shape


def test_a_damaged_cache_counts_as_unprepared(empty_cache: Path) -> None:
    path = prepare(VAE, epochs=1)
    path.write_bytes(path.read_bytes()[:-10])
    vae_codes.cache_clear()
    with pytest.raises(DataError, match="prepare"):
        VAE.vectors(EVERY)
    prepare(VAE, epochs=1)
    assert VAE.vectors(EVERY).isfinite().all()


def test_training_repeats_and_leaves_the_global_generator_alone() -> None:
    def weights() -> dict[str, torch.Tensor]:
        vae = Vae(8, 6)
        train_vae(vae, VAE.pixels, VAE.split("train"), epochs=1, device=torch.device("cpu"))
        return vae.state_dict()

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = weights()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_prefers_the_right_image_and_a_code_like_the_prior() -> None:
    vae = Vae(8, 6)
    train_vae(vae, VAE.pixels, VAE.split("train"), epochs=1, device=torch.device("cpu"))
    images = torch.from_numpy(VAE.pixels(EVERY))
    quiet, loud = torch.zeros(N, 6), torch.full((N, 6), 10.0)
    with torch.no_grad():
        assert loss_of(vae, images, quiet) < loss_of(vae, images, loud)


@pytest.mark.parametrize("image_size", [16, 32, 64])
def test_every_power_of_two_fits(image_size: int) -> None:
    vae = Vae(image_size, 3)
    images = torch.rand(2, image_size, image_size, 3, generator=torch.Generator().manual_seed(0))
    for parameter in vae.parameters():
        torch.nn.init.zeros_(parameter)
    mean, log_variance = vae.encode(images)
    assert mean.shape == log_variance.shape == (2, 3)
    assert vae.decode(mean).shape == images.shape


@pytest.mark.parametrize("image_size", [4, 20, 48])
def test_other_sizes_are_refused(image_size: int) -> None:
    with pytest.raises(SpecError, match="8, 16, 32, 64"):
        Vae(image_size, 3)


def test_components_can_be_made_ahead(empty_cache: Path) -> None:
    path = prepare(Shapes3D(image_size=8, grid=GRID, width=5))
    arrays = load_arrays(path)
    assert arrays is not None
    assert arrays["object"].shape == (18, 2, 5)
    assert np.isfinite(arrays["sky"]).all()


def test_what_cannot_be_prepared(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="needs no preparation"):
        prepare(Shapes3D(image_size=8, grid=GRID, encoder="pixels"))
    with pytest.raises(SpecError, match="at least 1"):
        prepare(VAE, epochs=0)
    (empty_cache / "file").write_text("in the way")
    monkeypatch.setenv("UNPLATEAU_CACHE", str(empty_cache / "file"))
    for source in (VAE, Shapes3D(image_size=8, grid=GRID, width=7)):
        with pytest.raises(StorageError, match="UNPLATEAU_CACHE"):
            prepare(source, epochs=1)
