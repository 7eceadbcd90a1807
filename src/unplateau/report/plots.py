"""Draws panels with matplotlib's objects, never its global state, so that nobody else's settings change a figure.

The same runs give the same bytes each time.
"""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from unplateau.analysis.columns import csv_text
from unplateau.analysis.compare import by_strategy
from unplateau.analysis.runs import Runs, Summaries, summaries
from unplateau.errors import SpecError, suggest
from unplateau.files import write_whole
from unplateau.outputs import MAKER, Ours, demand_replaceable, like_table, marked
from unplateau.report.curves import all_panels
from unplateau.report.panels import AnyPanel, CurvePanel, HeatPanel, OverviewPanel
from unplateau.report.style import INK, MUTED, PANEL, house_style, printable

FORMATS = ("png", "svg", "pdf", "csv")
_NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": MAKER},
    "pdf": {"CreationDate": None, "Creator": MAKER},
    "png": {"Software": MAKER},
}
"""What is written into a picture beside it: by its maker we know it again."""
_BESIDE_THE_AXES: dict[str, Any] = {
    "xycoords": "axes fraction",
    "textcoords": "offset points",
    "annotation_clip": False,
}
_NAMES_APART = 0.075
"""Of the height of the axes: a line of text."""
_ESCAPE: dict[str, Any] = {"marker": "v", "markersize": 8, "color": INK, "linestyle": "none", "zorder": 5}


def figures(runs: Runs) -> dict[str, Figure]:
    """One figure of small multiples for each kind of panel, by name, ready for print.

    ``runs``: as for :func:`unplateau.analysis.compare.compare`. Names: ``progress-by-step``, ``progress-by-compute``,
    ``loss``, ``accuracy``, and where there were probes ``weights-score``, ``context-score``, ``layers``,
    ``items-stand-out``, ``labels-are-bound``, ``labels-are-kept``, ``queries-look``; without those that a task does not
    have.
    """
    return {kind: compose(panels) for kind, panels in all_panels(by_strategy(drawable(runs))).items()}


def drawable(runs: Runs) -> Summaries:
    """These runs with what is drawn of them at hand; those that cannot be drawn are left out, with a warning."""
    return summaries(runs, lambda run: all_panels({run.strategy: (run,)}))


def save_figures(
    runs: Runs, folder: str | Path, formats: Sequence[str] = ("png", "svg", "pdf"), *, force: bool = False
) -> list[Path]:
    """Writes each of :func:`figures` as ``<folder>/<name>.<format>``; format ``csv`` writes its numbers.

    Raises SpecError for an unknown format, StorageError if the system refuses to write, OutputError for a file that is
    not ours, unless ``force`` allows to replace it.
    """
    for name in formats:
        if name not in FORMATS:
            raise SpecError(f"figures: unknown format '{name}'{suggest(name, FORMATS)}")
    files: list[tuple[Path, bytes, Ours]] = []
    for kind, panels in all_panels(by_strategy(drawable(runs))).items():
        figure = compose(panels) if set(formats) - {"csv"} else None
        for name in formats:
            data = csv_bytes(panels) if figure is None or name == "csv" else rendered(figure, name)
            files.append((Path(folder) / f"{kind}.{name}", data, like_table(data) if name == "csv" else marked(name)))
    for path, _, ours in files:
        demand_replaceable(path, ours, force=force)  # all of them before the first is written
    for path, data, _ in files:
        write_whole(path, data)
    return [path for path, _, _ in files]


class ShownFigure(Figure):
    """A figure that a notebook shows as a cell's value, without pyplot."""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def compose(panels: Sequence[AnyPanel]) -> Figure:
    """Panels of one kind side by side, at most three in a row, on white."""
    down = math.ceil(len(panels) / 3)
    across = math.ceil(len(panels) / down)
    extra = legend_height(panels[0])
    with house_style():
        figure = ShownFigure(
            (PANEL[0] * across, (PANEL[1] + 0.25 + extra) * down), layout="constrained", facecolor="white"
        )
        axes = figure.subplots(down, across, squeeze=False).flatten()
        for panel, ax in zip(panels, axes, strict=False):
            draw(panel, ax)
            ax.set_title(panel.title, loc="left", fontweight="bold", parse_math=False)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
    return figure


def single(panel: AnyPanel) -> Figure:
    """One panel without a title, which the page has in its own text; margins are fixed, so that panels line up."""
    below = legend_height(panel)
    height = PANEL[1] + below
    with house_style():
        figure = Figure((PANEL[0], height))
        figure.subplots_adjust(left=0.13, right=0.79, top=1 - 0.12 / height, bottom=(0.56 + below) / height)
        draw(panel, figure.subplots())
    return figure


def rendered(figure: Figure, form: str, **settings: object) -> bytes:
    """The figure as a file of this format, without a date in it."""
    buffer = io.BytesIO()
    with house_style(**settings):
        figure.savefig(buffer, format=form, metadata=_NO_DATE[form], dpi=200, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def csv_bytes(panels: Sequence[AnyPanel]) -> bytes:
    """The numbers that these panels draw, in long form."""
    first, *others = (panel.table() for panel in panels)
    return csv_text(chain(first, *(rows for _, *rows in others))).encode()


def draw(panel: AnyPanel, ax: Axes) -> None:
    """Draws one panel into these axes."""
    if isinstance(panel, HeatPanel):
        _draw_heat(panel, ax)
    elif isinstance(panel, OverviewPanel):
        _draw_overview(panel, ax)
    else:
        _draw_curves(panel, ax)
    ax.set(xlim=panel.limits[:2], ylim=panel.limits[2:], xlabel=panel.x_label, ylabel=panel.y_label)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}")


def legend_height(panel: AnyPanel) -> float:
    """Inches that the legend of a panel needs below it."""
    return 0.24 * math.ceil(len(panel.groups) / _legend_columns(panel)) if isinstance(panel, OverviewPanel) else 0.0


def _draw_overview(panel: OverviewPanel, ax: Axes) -> None:
    _draw_levels(panel, ax)
    handles = []
    for number, (_, look, lines) in enumerate(panel.groups):
        style: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "marker": look.marker, "markersize": 4}
        style |= {"linewidth": look.width, "zorder": 2 - look.width / 10}  # wide lines below, seen on both sides
        handles.append(Line2D([], [], label=f"line {number}", **style))
        for line in lines:
            every = max(1, len(line.x) // 6)
            _add_line(ax, line.x, line.y, markevery=(every // 2, every), **style)
    legend = ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.19),
        ncols=_legend_columns(panel),
        columnspacing=1.2,
        handlelength=3.2,
        borderaxespad=0.0,
    )
    for text, (name, _, _) in zip(legend.get_texts(), panel.groups, strict=True):
        text.set(text=printable(name, 40), parse_math=False)


def _legend_columns(panel: OverviewPanel) -> int:
    return 2 if all(len(printable(name)) <= 20 for name, _, _ in panel.groups) else 1


def _draw_curves(panel: CurvePanel, ax: Axes) -> None:
    ends = [float(line.y[-1]) for line in panel.controls if line.y.size]
    _draw_levels(panel, ax, {"control": fmean(ends)} if ends else {})
    for line in panel.controls:
        _add_line(ax, line.x, line.y, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.6)))
    for line in panel.lines:
        for flat in line.plateaus:
            colour = panel.look.colour if flat.kind == "plateau" else MUTED
            ax.axvspan(flat.start, flat.end, color=colour, alpha=0.22 / len(panel.lines), linewidth=0)
        _add_line(ax, line.x, line.y, color=panel.look.colour, linewidth=1.2)
    for line in panel.lines:
        if line.mark:
            _add_line(ax, *([at] for at in line.mark), **_ESCAPE, markeredgecolor="white")


def _add_line(ax: Axes, x: ArrayLike, y: ArrayLike, **style: Any) -> None:
    """As ``ax.plot`` does, which takes twice as long: it also looks what limits would suit the line."""
    ax.add_artist(Line2D(x, y, **style))


def _draw_levels(
    panel: CurvePanel | OverviewPanel, ax: Axes, others: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Dashed lines, named right of the axes, where no curve comes; ``others`` are named there as well."""
    for value in panel.levels.values():
        ax.axhline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=1)
    low, high = panel.limits[2:]
    heights = {name: (value - low) / (high - low) for name, value in {**panel.levels, **others}.items()}
    for name, height in spread(heights, _NAMES_APART).items():
        colour = MUTED if name in others else INK
        ax.annotate(name, (1, height), xytext=(4, 0), color=colour, fontsize=9, va="center", **_BESIDE_THE_AXES)


def spread(heights: Mapping[str, float], apart: float) -> dict[str, float]:
    """The same names from the lowest up, moved so that neighbours are at least ``apart`` from each other."""
    names = sorted(heights, key=lambda name: heights[name])
    placed = [heights[name] for name in names]
    for at in range(1, len(placed)):
        lacking = max(0.0, apart - (placed[at] - placed[at - 1])) / 2
        placed = [height - lacking for height in placed[:at]] + [height + lacking for height in placed[at:]]
    return dict(zip(names, placed, strict=True))


def _draw_heat(panel: HeatPanel, ax: Axes) -> None:
    layers, (low, high) = len(panel.values), panel.colours
    rows = [layer - 0.5 for layer in range(layers + 1)]
    lowest = min(low, high - 0.01)
    mesh = ax.pcolormesh(panel.edges, rows, panel.values, cmap="cividis", vmin=lowest, vmax=high, rasterized=True)
    ax.set_yticks(range(layers), ["emb.", *map(str, range(1, layers))])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(left=False)
    for mark in panel.marks:
        ax.plot(mark, layers - 0.44, clip_on=False, **_ESCAPE)
    inset = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar = ax.get_figure().colorbar(mesh, cax=inset)  # type: ignore[union-attr]
    bar.outline.set_visible(False)
    ticks = [tick for tick in (0.2, 0.4, 0.6, 0.8, 1.0) if tick - low > 0.08]
    bar.set_ticks([low, *ticks], labels=["chance", *(f"{tick:.1f}" for tick in ticks)])
