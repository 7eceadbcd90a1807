"""3D Shapes: rendered by us (``Shapes3D``) or read from the real file (``Shapes3DFile``)."""

from unplateau.items.shapes3d.file import Shapes3DFile
from unplateau.items.shapes3d.images import Grid
from unplateau.items.shapes3d.rendered import Shapes3D
from unplateau.items.shapes3d.vae import prepare

__all__ = ["Grid", "Shapes3D", "Shapes3DFile", "prepare"]
