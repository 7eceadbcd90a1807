"""Pictures of any curve with its plateaus: shaded, with the interval of each end, and what its drops come with."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from unplateau.errors import SpecError, suggest
from unplateau.outputs import demand_replaceable, marked, write_output
from unplateau.plateau.curve import Direction
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.plateau.progress import Floats, checked
from unplateau.report.plots import rendered
from unplateau.report.style import INK, MUTED, PALETTE, house_style, printable

FORMATS = ("html", "pdf", "png", "svg")
SIZE, LINE_OF_LEGEND = (8.0, 3.8), 0.22
"""Inches of one panel, and of each line below it."""
MOST_POINTS = 800
"""Points of a line; of more, neighbours are drawn as their mean with a band from the lowest to the highest."""
BAND = 0.025
"""Half the height of a plateau's box where there are several curves, as a share of the panel's height."""
GROWING = 0.12
"""Where half of the rows lie in this share of the steps, or less, steps are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class PlottedCurve:
    """A curve to draw: its name, the names of its axes, its plateaus, and marks: (step, words)."""

    steps: Floats
    values: Floats
    plateaus: Sequence[Plateau]
    name: str = ""
    x_label: str = "step"
    y_label: str = "value"
    marks: Sequence[tuple[float, str]] = ()
    notes: Sequence[str] = ()


def plot_plateaus(
    steps: ArrayLike,
    values: ArrayLike,
    plateaus: Sequence[Plateau] | None = None,
    *,
    floor: float | None = None,
    ceiling: float | None = None,
    direction: Direction = "min",
    x_label: str = "step",
    y_label: str = "value",
    name: str = "",
) -> Figure:
    """A figure of a curve with its plateaus shaded and the 95 % interval of each end drawn.

    ``plateaus``: None finds them, with ``floor``, ``ceiling`` and ``direction`` as for
    :func:`~unplateau.plateau.detect.find_plateaus`. ``name`` is the title. The figure is matplotlib's own: save it with
    ``figure.savefig``. Raises as ``find_plateaus`` does.
    """
    s, v = checked(steps, values)
    if plateaus is None:
        plateaus = find_plateaus(s, v, floor=floor, ceiling=ceiling, direction=direction)
    return draw_plateaus([PlottedCurve(s, v, plateaus, name, x_label, y_label)])


def draw_plateaus(curves: Sequence[PlottedCurve]) -> Figure:
    """One panel for each column, one below the other, with all curves of that column in it."""
    panels: dict[str, list[PlottedCurve]] = {}
    for curve in curves:
        panels.setdefault(curve.y_label, []).append(curve)
    below = [LINE_OF_LEGEND * math.ceil(len(drawn) / 2) * (len(drawn) > 1) for drawn in panels.values()]
    with house_style():
        size = (SIZE[0], sum(SIZE[1] + extra for extra in below))
        figure = Figure(size, layout="constrained", facecolor="white")
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        for ax, drawn in zip(axes, panels.values(), strict=True):
            _draw(ax, drawn)
    return figure


def save_plateaus(curves: Sequence[PlottedCurve], path: str | Path, *, force: bool = False) -> Path:
    """Writes the picture as PNG, SVG or PDF, or as a page of HTML with the plateaus in words, and returns the path.

    Raises SpecError, without drawing, if the name ends in something else; OutputError if the path holds anything but an
    earlier picture of ours, unless ``force`` allows to replace a regular file; StorageError if the system refuses.
    """
    path = Path(path)
    form = format_of(path)
    demand_replaceable(path, marked(form), force=force)
    figure = draw_plateaus(curves)
    data = _page(curves, figure) if form == "html" else rendered(figure, form)
    write_output(path, data, marked(form), force=force)
    return path


def format_of(path: Path) -> str:
    """The format that a file's name asks for. Raises SpecError if it is none of those that there are."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise SpecError(
            f"{path}: a picture is written as .png, .svg, .pdf or .html{suggest(form, FORMATS) if form else ''}"
        )
    return form


def _draw(ax: Axes, curves: Sequence[PlottedCurve]) -> None:
    several = len(curves) > 1
    growing = all(_grows(curve.steps) for curve in curves)
    if growing:
        least = min(float(curve.steps[curve.steps > 0].min()) for curve in curves)
        ax.set_xscale("symlog", linthresh=least) if any(curve.steps[0] <= 0 for curve in curves) else ax.set_xscale(
            "log"
        )
    low, high = _limits(curves)
    for curve, colour in zip(curves, cycle(PALETTE), strict=False):
        _draw_line(ax, curve, colour)
        for plateau in curve.plateaus:
            shade = (low, high) if not several else _band(plateau.level, high - low)
            _draw_plateau(ax, plateau, colour, colour if several else INK, shade)
            if plateau.kind != "plateau":
                _name(ax, plateau, colour if several else INK, middle=(low + high) / 2)
    ax.set(ylim=(low, high), xlabel=printable(curves[0].x_label), ylabel=printable(curves[0].y_label))
    _draw_marks(ax, [mark for curve in curves for mark in curve.marks], high)
    if not growing:
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}")
    ax.margins(x=0.01)
    if several:
        legend = ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, handlelength=2.0)
        for text, curve in zip(legend.get_texts(), curves, strict=True):
            text.set(text=printable(curve.name), parse_math=False)
    else:
        ax.set_title(
            printable(curves[0].name, 70) if curves[0].name else "", loc="left", fontweight="bold", parse_math=False
        )


def _draw_line(ax: Axes, curve: PlottedCurve, colour: str) -> None:
    x, y = curve.steps, curve.values
    if x.size > MOST_POINTS:
        starts = np.linspace(0, x.size, MOST_POINTS + 1).astype(int)[:-1]
        sizes = np.diff([*starts, x.size])
        low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
        x, y = np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(x, y, color=colour, linewidth=1.2, label=f"curve {curve.name}")


def _band(level: float, height: float) -> tuple[float, float]:
    """What is shaded of a plateau where there are several curves."""
    return level - BAND * height, level + BAND * height


def _draw_plateau(ax: Axes, plateau: Plateau, colour: str, ink: str, shade: tuple[float, float]) -> None:
    """A shaded box, a line at its level, and a bar for the interval of its end; an arrow where it has not ended.

    The box is grey where learning came first.
    """
    fill = colour if plateau.kind == "plateau" else MUTED
    ax.fill_between([plateau.start, plateau.end], *shade, color=fill, alpha=0.18, linewidth=0, zorder=0)
    ax.plot(
        [plateau.start, plateau.end], [plateau.level] * 2, color=ink, linewidth=1.6, zorder=4, linestyle=(0, (4, 2))
    )
    if plateau.ended:
        low, high = plateau.interval
        error = [[max(plateau.end - low, 0.0)], [max(high - plateau.end, 0.0)]]
        bar: dict[str, Any] = {
            "ecolor": ink,
            "elinewidth": 1.8,
            "capsize": 4.5,
            "capthick": 1.8,
            "fmt": "none",
            "zorder": 5,
        }
        ax.errorbar([plateau.end], [plateau.level], xerr=error, **bar)
    else:
        ax.plot([plateau.end], [plateau.level], marker=">", markersize=7, color=ink, zorder=5, clip_on=False)


def _name(ax: Axes, plateau: Plateau, ink: str, middle: float) -> None:
    """Says at its end what a flat part is that no learning follows: above its level, or below it if that is high."""
    side = 1 if plateau.level < middle else -1
    at = (plateau.end, plateau.level)
    said: dict[str, Any] = {"ha": "right", "va": "bottom" if side > 0 else "top", "fontsize": 9, "color": ink}
    ax.annotate(plateau.kind, at, xytext=(-3, 7 * side), textcoords="offset points", zorder=6, **said)


def _draw_marks(ax: Axes, marks: Sequence[tuple[float, str]], top: float) -> None:
    """Dotted lines with their words at the top; at one step each word once."""
    by_step: dict[float, dict[str, None]] = {}
    for step, words in marks:
        by_step.setdefault(step, {})[words] = None
    for step, said_there in by_step.items():
        ax.axvline(step, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.6)), zorder=1)
        said: dict[str, Any] = {"rotation": 90, "ha": "left", "va": "top", "fontsize": 8.5, "color": MUTED}
        at = (step, top)
        ax.annotate(", ".join(said_there), at, xytext=(2, -3), textcoords="offset points", parse_math=False, **said)


def _grows(steps: Floats) -> bool:
    """Are rows logged at growing distances?"""
    length = steps[-1] - steps[0]
    return bool(length > 0 and steps[0] >= 0 and np.median(steps) - steps[0] < GROWING * length)


def _limits(curves: Sequence[PlottedCurve]) -> tuple[float, float]:
    """All plateaus and the bulk of all values with some air: single spikes may lie outside."""
    values = np.concatenate([curve.values for curve in curves])
    low, high = (float(np.quantile(values, share)) for share in (0.002, 0.998))
    levels = [plateau.level for curve in curves for plateau in curve.plateaus]
    low, high = min([low, *levels]), max([high, *levels])
    air = 0.06 * (high - low) or max(0.5, 0.05 * abs(high))
    return low - air, high + air


def _page(curves: Sequence[PlottedCurve], figure: Figure) -> bytes:
    svg = rendered(figure, "svg", **{"svg.fonttype": "none"}).decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    environment = Environment(
        loader=PackageLoader("unplateau.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("plateaus.html.jinja").render(
        title="Learning plateaus",
        picture=Markup(svg),
        alt="; ".join(f"{curve.name or curve.y_label}: {_words(curve)}" for curve in curves),
        curves=[(printable(curve.name or curve.y_label, 200), _sentences(curve), curve.notes) for curve in curves],
    )
    return page.encode("utf-8", errors="replace")


def _sentences(curve: PlottedCurve) -> list[str]:
    return [*map(str, curve.plateaus)] or ["no plateau found"]


def _words(curve: PlottedCurve) -> str:
    return ", ".join(_sentences(curve))
