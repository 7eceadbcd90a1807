"""3D Shapes: rendered by us (``Shapes3D``) or read from the real file (``Shapes3DFile``)."""

from unplateau.tasks.shapes3d.file import Shapes3DFile
from unplateau.tasks.shapes3d.grid import Grid
from unplateau.tasks.shapes3d.prepare import prepare
from unplateau.tasks.shapes3d.source import Shapes3D

__all__ = ["Grid", "Shapes3D", "Shapes3DFile", "prepare"]
