"""What a figure shows, as numbers: the part of it that can be tested, read aloud and written to CSV.

A panel is one small multiple; ``curves`` makes them and ``plots`` draws them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unplateau.plateau.detect import Plateau
from unplateau.plateau.progress import Floats
from unplateau.report.style import Look

Table = list[list[Any]]
"""A header and rows in long form."""

MOST_POINTS, MOST_COLUMNS = 320, 100
"""Points of a line and columns of a heat map beyond which neighbours are averaged."""


@dataclass(frozen=True)
class Line:
    """One run's curve with its plateaus. ``mark``: the point of escape, None if censored."""

    seed: int
    x: Floats
    y: Floats
    plateaus: tuple[Plateau, ...] = ()
    mark: tuple[float, float] | None = None

    @property
    def points(self) -> Iterator[tuple[float, float]]:
        """(x, y) of each point."""
        return zip(self.x.tolist(), self.y.tolist(), strict=True)


def flat_words(flat: Plateau) -> str:
    """A plateau as texts name it."""
    return f"{flat.name} from step {flat.start:,.0f} to {flat.end:,.0f}"


@dataclass(frozen=True)
class Panel:
    """One small multiple: ``alt`` states its numbers in words.

    ``limits``: (x low, x high, y low, y high).
    """

    title: str
    alt: str
    x_label: str
    y_label: str
    limits: tuple[float, float, float, float]


@dataclass(frozen=True)
class CurvePanel(Panel):
    """Lines of all seeds of one strategy, ``controls`` faintly below them; ``levels``: named horizontal lines."""

    strategy: str
    look: Look
    levels: dict[str, float]
    lines: tuple[Line, ...]
    controls: tuple[Line, ...] = ()

    def table(self) -> Table:
        """One row for each point."""
        named = [("value", line) for line in self.lines] + [("control", line) for line in self.controls]
        rows = [[self.strategy, line.seed, name, *point] for name, line in named for point in line.points]
        return [["strategy", "seed", "curve", self.x_label, self.y_label], *rows]


@dataclass(frozen=True)
class OverviewPanel(Panel):
    """One line a run, all strategies in one panel: their names, looks and lines."""

    levels: dict[str, float]
    groups: tuple[tuple[str, Look, tuple[Line, ...]], ...]

    def table(self) -> Table:
        """One row for each point."""
        rows = [[name, line.seed, *point] for name, _, lines in self.groups for line in lines for point in line.points]
        return [["strategy", "seed", self.x_label, self.y_label], *rows]


@dataclass(frozen=True)
class HeatPanel(Panel):
    """``values`` (L + 1, columns): the mean score over seeds; ``edges`` (columns + 1): where columns begin and end.

    ``steps`` (columns): where they were measured. ``colours``: scores at the ends of the colour scale. ``marks``: steps
    of the escapes.
    """

    strategy: str
    steps: Floats
    edges: Floats
    values: Floats
    colours: tuple[float, float]
    marks: tuple[float, ...]

    def table(self) -> Table:
        """One row for each cell; the embedding is layer 0."""
        rows = [
            [self.strategy, layer, float(step), float(value)]
            for step, column in zip(self.steps, self.values.T, strict=True)
            for layer, value in enumerate(column)
        ]
        return [["strategy", "layer", "step", "weights score"], *rows]


AnyPanel = CurvePanel | OverviewPanel | HeatPanel


def layer_name(layer: int) -> str:
    """``embedding``, ``block 1`` and so on."""
    return f"block {layer}" if layer else "embedding"


def merged(x: ArrayLike, y: ArrayLike, most: int = MOST_POINTS) -> tuple[Floats, Floats]:
    """At most ``most`` points: means of neighbouring ones where there are more. ``y`` (..., points)."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) <= most:
        return xs, ys
    starts = np.linspace(0, len(xs), most + 1).astype(int)[:-1]
    sizes = np.diff([*starts, len(xs)])
    return np.add.reduceat(xs, starts) / sizes, np.add.reduceat(ys, starts, axis=-1) / sizes
