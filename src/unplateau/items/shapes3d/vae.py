"""A small convolutional variational auto-encoder (Kingma and Welling 2014; layers as Burgess et al. 2018).

Its mean codes serve as item vectors. The paper's items are 768-d VAE codes (Fu et al. 2024, section 3); it publishes no
weights, so they are trained here.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unplateau.cache import Arrays, load_arrays, save_arrays
from unplateau.errors import SpecError, StorageError
from unplateau.files import held, lock_of
from unplateau.items.shapes3d.images import ImageSource, vae_codes
from unplateau.limits import UPDATES_A_SECOND, refuse_hours, refuse_memory
from unplateau.rng import fold

BATCH, LEARNING_RATE, HIDDEN = 128, 1e-3, 256

PIXEL_NOISE = 0.1
"""Standard deviation of the Gaussian that pixels are scored with; smaller means sharper codes, less like the prior."""

Reader = Callable[[Tensor], npt.NDArray[np.float32]]

Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss in nats per image)."""


class Vae(nn.Module):
    """Convolutions of stride 2 down to 4 x 4, one hidden layer, ``width`` latents, and the same back."""

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        self.width = width
        n_halvings = int(math.log2(image_size / 4))
        if n_halvings < 1 or 4 * 2**n_halvings != image_size:
            raise SpecError(f"image_size {image_size}: the VAE takes 8, 16, 32, 64, ... pixels")
        channels = [3, *(32 if step < 2 else 64 for step in range(n_halvings))]
        flat = channels[-1] * 16
        with torch.device("meta"):  # builds without drawing from the global generator
            self.encoder = nn.Sequential(
                *_convolutions(nn.Conv2d, channels),
                nn.Flatten(),
                *(nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * width)),
            )
            self.decoder = nn.Sequential(
                *(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, flat), nn.ReLU()),
                nn.Unflatten(1, (channels[-1], 4, 4)),
                *_convolutions(nn.ConvTranspose2d, channels[::-1]),
            )
        self.to_empty(device="cpu")

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, width) of the code of images (B, height, width, 3) in [0, 1]."""
        mean, log_variance = self.encoder(images.movedim(-1, 1) - 0.5).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, codes: Tensor) -> Tensor:
        """(B, height, width, 3): images for codes (B, width)."""
        images: Tensor = self.decoder(codes).sigmoid()
        return images.movedim(1, -1)


def loss_of(vae: Vae, images: Tensor, noise: Tensor) -> Tensor:
    """Negative evidence lower bound in nats per image, up to a constant; ``noise`` (B, width) is standard normal."""
    mean, log_variance = vae.encode(images)
    decoded = vae.decode(mean + noise * (log_variance / 2).exp())
    misfit = (decoded - images).square().sum() / (2 * PIXEL_NOISE**2)
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
    return (misfit + divergence) / len(images)


def train_vae(
    vae: Vae,
    read: Reader,
    train: Tensor,
    *,
    epochs: int,
    device: torch.device,
    progress: Progress | None = None,
) -> None:
    """Initialises and trains ``vae`` on the images with the indices ``train``; repeatable on one device."""
    _initialise(vae, fold(0, "vae weights"))
    vae.to(device)
    optimiser = torch.optim.Adam(vae.parameters(), lr=LEARNING_RATE)
    orders = (torch.randperm(len(train), generator=fold(0, "vae order", epoch)) for epoch in range(epochs))
    batches = (batch for order in orders for batch in train[order].split(BATCH))
    n_steps = epochs * -(-len(train) // BATCH)
    for step, index in enumerate(batches):
        noise = torch.randn((len(index), vae.width), generator=fold(0, "vae noise", step))
        loss = loss_of(vae, torch.from_numpy(read(index)).to(device), noise.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress is not None:
            progress(step + 1, n_steps, loss.item())


def _convolutions(layer: Callable[..., nn.Module], channels: list[int]) -> list[nn.Module]:
    """Layers of stride 2 with a ReLU between them; after the last only where the image is being taken in."""
    layers: list[nn.Module] = []
    for entering, leaving in pairwise(channels):
        layers += [layer(entering, leaving, kernel_size=4, stride=2, padding=1), nn.ReLU()]
    return layers if channels[0] == 3 else layers[:-1]


def _initialise(vae: Vae, generator: torch.Generator) -> None:
    for name, parameter in vae.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_uniform_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)


def prepare(
    source: ImageSource, *, progress: Progress | None = None, epochs: int = 10, device: str | torch.device = "cpu"
) -> Path:
    """Fits or trains the encoder of ``source`` unless that was done before, and returns the file with its codes.

    ``epochs``: passes over the train images (VAE only); another number than last time trains again. ``progress`` is
    called with (steps done, steps in all, loss in nats per image). Raises :class:`StorageError` if it cannot be kept.
    """
    if source.encoder == "pixels":
        raise SpecError("encoder 'pixels' needs no preparation; pca and vae do")
    refuse_memory("the codes of these images", source.data_bytes())
    if source.encoder == "pca":
        source.vectors(torch.zeros(1, dtype=torch.long))
        if load_arrays(source.cache_file) is None:
            raise StorageError(f"{source.cache_file}: the cache cannot be written; set UNPLATEAU_CACHE to a folder")
        return source.cache_file
    _prepare_vae(source, progress, epochs, torch.device(device))
    return source.cache_file


def _prepare_vae(source: ImageSource, progress: Progress | None, epochs: int, device: torch.device) -> None:
    if epochs < 1:
        raise SpecError(f"epochs {epochs}: training needs at least 1")
    refuse_hours(f"epochs {epochs}", epochs / UPDATES_A_SECOND / 3600, f"{UPDATES_A_SECOND:,.0f} updates a second")
    path = source.cache_file
    with ExitStack() as lock:
        try:
            lock.enter_context(held(lock_of(path)))
        except StorageError as error:
            folder = f"{path.parent}: cannot be written"
            raise StorageError(f"{folder}; set UNPLATEAU_CACHE to a folder that can") from error
        found = load_arrays(path)
        if found is not None and int(found["epochs"]) == epochs:
            return
        save_arrays(path, _trained(source, progress, epochs, device))
    vae_codes.cache_clear()


def _trained(source: ImageSource, progress: Progress | None, epochs: int, device: torch.device) -> Arrays:
    vae = Vae(source._sizes_and_pixels[1], source.form.width)
    read = source.reader()
    train_vae(vae, read, source.split("train"), epochs=epochs, device=device, progress=progress)
    chunks = torch.arange(len(source.factors())).split(4 * BATCH)
    with torch.no_grad():
        codes = [vae.encode(torch.from_numpy(read(chunk)).to(device))[0].half().cpu() for chunk in chunks]
    weights = {f"vae.{name}": tensor.numpy(force=True) for name, tensor in vae.state_dict().items()}
    return {**weights, "codes": torch.cat(codes).numpy(), "epochs": np.array(epochs)}
