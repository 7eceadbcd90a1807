"""``unplateau prepare``: encodes images ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from unplateau.items.shapes3d.images import ImageSource

What = Annotated[Literal["shapes3d"], Positional]


def prepare(
    what: What,
    /,
    *,
    encoder: Literal["pca", "vae"] = "pca",
    image_size: int = 64,
    small: bool = False,
    file: Annotated[Path | None, arg(metavar="3DSHAPES.H5")] = None,
    width: int | None = None,
    epochs: int = 10,
    device: str = "cpu",
) -> None:
    """Fits or trains the encoder of images and keeps their codes in the cache, where tasks find them.

    Principal components are also made on demand; the VAE is trained here only, and meant for a GPU. The cache is the
    folder in UNPLATEAU_CACHE, or the user's cache directory.

    Args:
        what: shapes3d
        encoder: pca (principal components) or vae (variational auto-encoder)
        image_size: height and width of rendered images in pixels
        small: the reduced grid of 5,120 images at 32 x 32 pixels that the demo uses, instead of all 480,000
        file: encode the images of this file instead of rendered ones
        width: length of a code; default: 16 for pca, 768 for vae
        epochs: passes over the train images (vae only)
        device: cpu, cuda, cuda:1 ... (vae only)
    """
    from unplateau.cli.progress import display  # noqa: PLC0415
    from unplateau.items.shapes3d.vae import prepare as prepare_source  # noqa: PLC0415 (torch)
    from unplateau.store import RunState  # noqa: PLC0415
    from unplateau.train.loop import choose_device  # noqa: PLC0415

    del what
    source = _source(encoder, image_size, width, small=small, file=file)
    with display() as show:

        def progress(step: int, total: int, loss: float) -> None:
            del loss
            show(0, RunState(f"training the {encoder}", source.cache_file, total, "running", step))

        path = prepare_source(source, progress=progress, epochs=epochs, device=choose_device(device))
    print(f"done: {path}")


def _source(encoder: str, image_size: int, width: int | None, *, small: bool, file: Path | None) -> ImageSource:
    from unplateau.config import parse  # noqa: PLC0415
    from unplateau.items.shapes3d import Shapes3D, Shapes3DFile  # noqa: PLC0415
    from unplateau.items.shapes3d.images import Grid  # noqa: PLC0415

    data = {"encoder": encoder, "width": width, "grid": Grid.small() if small else Grid()}
    if file is not None:
        return parse(Shapes3DFile, {**data, "path": file}, where="prepare")
    return parse(Shapes3D, {**data, "image_size": 32 if small else image_size}, where="prepare")
