"""What a mouse finds in a picture of the page: areas with a text, which the browser shows without a script.

A panel enters; areas leave, in fractions of its axes, so that they can be tested without drawing. Areas are few enough
for a mouse to hit each of them: values are told at some of the points that are drawn.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from unplateau.plateau.progress import Floats
from unplateau.report.panels import AnyPanel, CurvePanel, HeatPanel, Line, OverviewPanel, Panel, flat_words, layer_name
from unplateau.report.style import printable

STOPS = 40
"""Places along the axis where values are told: about 8 pixels each."""
REACH, APART = 0.08, 0.025
"""Of the height: how far from a value a mouse finds it, and how far apart two must be to have areas of their own."""
MOST_TEXTS = 8
"""Lines of a text; of more, the rest is counted."""


class Area(NamedTuple):
    """A rectangle in fractions of the axes, from the lower left, and what it says."""

    left: float
    right: float
    low: float
    high: float
    text: str


class Stretch(NamedTuple):
    """From where to where a line goes at a stop, in heights of the axes, its place among the lines, and its text."""

    low: float
    high: float
    place: int
    text: str


def areas(panel: AnyPanel) -> list[Area]:
    """Where a mouse finds which text; later areas lie above earlier ones."""
    if isinstance(panel, HeatPanel):
        return [*_cells(panel), *(_mark(panel, x, panel.limits[3], f"escape at {_at(panel, x)}") for x in panel.marks)]
    if isinstance(panel, OverviewPanel):
        named = [
            (f"{printable(name)}, seed {line.seed}", line, f" ({_escape(panel, line)})")
            for name, _, lines in panel.groups
            for line in lines
        ]
        return [*_values(panel, named)]
    start = printable(panel.strategy)
    named = [(f"{start}, control, seed {line.seed}", line, "") for line in panel.controls]
    named += [(f"{start}, seed {line.seed}", line, "") for line in panel.lines]
    marks = (
        _mark(panel, *line.mark, f"{start}, seed {line.seed}: {_escape(panel, line)}")
        for line in panel.lines
        if line.mark
    )
    return [*_plateaus(panel), *_values(panel, named), *marks]


def _values(panel: Panel, named: Iterable[tuple[str, Line, str]]) -> Iterator[Area]:
    """Around each line at each stop, up to half-way to the next line; lines closer than a mouse can tell share one."""
    drawn = [(name, line, end) for name, line, end in named if line.x.size]
    measure = panel.y_label.split(" (")[0]
    for left, stop, right in _stops(panel, [line.x for _, line, _ in drawn]):
        stretches: list[Stretch] = []
        for name, line, end in drawn:
            if line.x[0] <= right and line.x[-1] >= left:
                nearest = int(np.abs(line.x - stop).argmin())
                text = f"{name}, {_at(panel, line.x[nearest])}: {measure} {line.y[nearest]:.2f}{end}"
                low, high = (_up(panel, y) for y in _range(line, left, right))
                if low <= 1 and high >= 0:
                    stretches.append(Stretch(max(low, 0.0), min(high, 1.0), len(stretches), text))
        yield from _bands(_along(panel, left), _along(panel, right), stretches)


def _range(line: Line, left: float, right: float) -> tuple[float, float]:
    """The lowest and the highest value that is drawn between these places."""
    within = line.y[(line.x >= left) & (line.x <= right)]
    values = [*within.tolist(), *np.interp([left, right], line.x, line.y).tolist()]
    return min(values), max(values)


def _bands(left: float, right: float, stretches: Iterable[Stretch]) -> Iterator[Area]:
    """One area for each bunch of stretches that touch or nearly so; its texts in the order of drawing."""
    bunches: list[list[Stretch]] = []
    for one in sorted(stretches):
        if bunches and one.low - max(other.high for other in bunches[-1]) < APART:
            bunches[-1].append(one)
        else:
            bunches.append([one])
    ends = [(bunch[0].low, max(one.high for one in bunch)) for bunch in bunches]
    middles = [(below[1] + above[0]) / 2 for below, above in pairwise(ends)]
    for number, (bunch, (low, high)) in enumerate(zip(bunches, ends, strict=True)):
        floor = middles[number - 1] if number else 0.0
        ceiling = middles[number] if number < len(middles) else 1.0
        texts = (one.text for one in sorted(bunch, key=lambda one: one.place))
        yield Area(left, right, max(floor, low - REACH), min(ceiling, high + REACH), _together(texts))


def _cells(panel: HeatPanel) -> Iterator[Area]:
    for left, stop, right in _stops(panel, [panel.steps]):
        column = int(np.abs(panel.steps - stop).argmin())
        for layer, value in enumerate(panel.values[:, column]):
            where = f"{layer_name(layer)}, {_at(panel, stop)}"
            low, high = _up(panel, layer - 0.5), _up(panel, layer + 0.5)
            yield Area(_along(panel, left), _along(panel, right), low, high, f"{where}: weights score {value:.2f}")


def _plateaus(panel: CurvePanel) -> Iterator[Area]:
    """The shaded bands, cut where one begins or ends, so that each part names all that lie there."""
    bands = [
        (float(flat.start), float(flat.end), f"seed {line.seed}: {flat_words(flat)}")
        for line in panel.lines
        for flat in line.plateaus
    ]
    for left, right in pairwise(sorted({end for start, stop, _ in bands for end in (start, stop)})):
        if there := [text for start, stop, text in bands if start <= left and right <= stop]:
            yield Area(_along(panel, left), _along(panel, right), 0.0, 1.0, _together(there))


def _stops(panel: Panel, points: list[Floats]) -> Iterator[tuple[float, float, float]]:
    """Points at most ``STOPS``, evenly spread, each with where it begins and ends to be the nearest one."""
    low, high = panel.limits[:2]
    xs = np.unique(np.concatenate(points)) if points else np.array([])
    if not xs.size:
        return
    stops = np.unique([xs[np.abs(xs - wanted).argmin()] for wanted in np.linspace(low, high, STOPS)])
    edges = [low, *(stops[1:] + stops[:-1]) / 2, high]
    yield from zip(edges[:-1], stops.tolist(), edges[1:], strict=True)


def _mark(panel: Panel, x: float, y: float, text: str) -> Area:
    """Around a triangle."""
    along, up = _along(panel, x), _up(panel, y)
    return Area(along - 0.02, along + 0.02, up - 0.03, up + 0.03, text)


def _escape(panel: Panel, line: Line) -> str:
    return f"escape at {_at(panel, line.mark[0])}" if line.mark else "no escape"


def _at(panel: Panel, x: float) -> str:
    return f"step {x:,.0f}" if panel.x_label == "step" else f"{x:.3g} TFLOP"


def _together(texts: Iterable[str]) -> str:
    first = list(texts)
    rest = len(first) - MOST_TEXTS
    return "\n".join([*first[:MOST_TEXTS], *([f"and {rest} more"] if rest > 0 else [])])


def _along(panel: Panel, x: float) -> float:
    low, high = panel.limits[:2]
    return float(np.clip((x - low) / (high - low), 0, 1))


def _up(panel: Panel, y: float) -> float:
    low, high = panel.limits[2:]
    return (y - low) / (high - low)
