"""Makes the codes of an image source ahead of time: what ``unplateau prepare`` runs.

What enters: an image source. What leaves: the path of its cached codes. A VAE is trained here and nowhere else, since
it wants a GPU and minutes; principal components are made on demand as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from unplateau.errors import DataError, SpecError, StorageError
from unplateau.tasks.shapes3d.cache import Arrays, load, locked, store
from unplateau.tasks.shapes3d.images import ImageSource, vae_codes
from unplateau.tasks.shapes3d.vae import Progress, Vae, encode_all, train_vae

WEIGHTS = "vae."
"""Prefix of the VAE's weights among the cached arrays."""


def prepare(
    source: ImageSource, *, progress: Progress | None = None, epochs: int = 10, device: str | torch.device = "cpu"
) -> Path:
    """Fits or trains the encoder of ``source`` unless that was done before, and returns the file with its codes.

    ``epochs``: passes over the train images (VAE only); another number than last time trains again. ``progress`` is
    called with (steps done, steps in all, loss in nats per image). Raises :class:`StorageError` if it cannot be kept.
    """
    if source.encoder == "pixels":
        raise SpecError("encoder 'pixels' needs no preparation; pca and vae do")
    if source.encoder == "pca":
        source.vectors(torch.zeros(1, dtype=torch.long))
        if load(source.cache_file) is None:
            raise StorageError(f"{source.cache_file}: the cache cannot be written; set UNPLATEAU_CACHE to a folder")
        return source.cache_file
    _prepare_vae(source, progress, epochs, torch.device(device))
    return source.cache_file


def trained_vae(source: ImageSource) -> Vae:
    """The prepared VAE itself, on the CPU; :class:`DataError` if there is none."""
    vae_codes(source.cache_file)
    arrays = load(source.cache_file)
    if arrays is None:
        raise DataError(f"{source.cache_file}: the cached VAE can no longer be read; prepare it again")
    vae = Vae(source._sizes_and_pixels[1], source.item_width)
    weights = {name.removeprefix(WEIGHTS): array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    vae.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return vae


def _prepare_vae(source: ImageSource, progress: Progress | None, epochs: int, device: torch.device) -> None:
    if epochs < 1:
        raise SpecError(f"epochs {epochs}: training needs at least 1")
    path = source.cache_file
    with locked(path) as writable:
        if not writable:
            raise StorageError(f"{path.parent}: cannot be written; set UNPLATEAU_CACHE to a folder that can")
        found = load(path)
        if found is not None and int(found["epochs"]) == epochs:
            return
        arrays = _trained(source, progress, epochs, device)
        try:
            store(path, arrays)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    vae_codes.cache_clear()


def _trained(source: ImageSource, progress: Progress | None, epochs: int, device: torch.device) -> Arrays:
    vae = Vae(source._sizes_and_pixels[1], source.item_width)
    read = source.reader()
    train_vae(vae, read, source.split("train"), epochs=epochs, device=device, progress=progress)
    codes = encode_all(vae, read, len(source.factors()), device)
    weights = {WEIGHTS + name: tensor.numpy(force=True) for name, tensor in vae.state_dict().items()}
    return {**weights, "codes": codes, "epochs": np.array(epochs)}
