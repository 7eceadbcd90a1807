"""What is drawn of curves and their plateaus, read back from the figure."""

import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from unplateau.errors import DataError, SpecError
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.report.plateau_plot import MOST_POINTS, PlottedCurve, draw_plateaus, plot_plateaus, save_plateaus
from unplateau.report.style import MUTED

STEPS = np.arange(0.0, 1500.0, 10.0)
LOSS = math.log(4) - 1.2 * np.clip((STEPS - 600) / 200, 0, 1) + 0.02 * np.sin(12.9898 * STEPS)
ENDED = Plateau(0.0, 600.0, 1.4, True, (580.0, 620.0))
OPEN = Plateau(800.0, 1490.0, 0.2, False, (1490.0, math.inf))


def test_the_curve_its_plateaus_and_the_interval_of_each_end() -> None:
    figure = plot_plateaus(STEPS, LOSS, [ENDED, OPEN], name="mine", x_label="iteration", y_label="loss")
    (ax,) = figure.axes
    assert (ax.get_title("left"), ax.get_xlabel(), ax.get_ylabel()) == ("mine", "iteration", "loss")
    curve, *levels = (line.get_xydata() for line in ax.lines)
    assert np.array_equal(curve, np.stack([STEPS, LOSS], 1))
    assert [[0.0, 1.4], [600.0, 1.4]] in [np.asarray(level).tolist() for level in levels]
    assert [[1490.0, 0.2]] in [np.asarray(level).tolist() for level in levels]  # the arrow
    (bar,) = [one for one in ax.collections if isinstance(one, LineCollection)]
    assert bar.get_segments()[0].tolist() == [[580.0, 1.4], [620.0, 1.4]]
    shaded = [one.get_datalim(ax.transData).intervalx.tolist() for one in ax.collections if one is not bar]
    assert shaded == [[0.0, 600.0], [800.0, 1490.0]]


@pytest.mark.parametrize("several", [False, True])
def test_what_learning_came_before_is_grey_and_named(several: bool) -> None:
    after = [replace(OPEN, kind="levels off"), replace(OPEN, level=1.4, kind="collapsed"), ENDED]
    curves = [PlottedCurve(STEPS, LOSS, after, "one"), PlottedCurve(STEPS, LOSS + 0.1, [], "two")]
    (ax,) = draw_plateaus(curves[: 1 + several]).axes
    assert [(one.get_text(), one.xy) for one in ax.texts] == [
        ("levels off", (1490.0, 0.2)),
        ("collapsed", (1490.0, 1.4)),
    ]
    fills = [one.get_facecolor()[0, :3].tolist() for one in ax.collections if not isinstance(one, LineCollection)]
    assert fills[0] == fills[1] == list(mpl.colors.to_rgb(MUTED)) != fills[2]


def test_plateaus_are_found_if_not_given() -> None:
    figure = plot_plateaus(STEPS, -LOSS, floor=-math.log(4), ceiling=-0.18, direction="max")
    (found,) = find_plateaus(STEPS, -LOSS, floor=-math.log(4), ceiling=-0.18, direction="max")
    assert [[found.start, found.level], [found.end, found.level]] in [
        line.get_xydata().tolist() for line in figure.axes[0].lines
    ]


def test_wrong_curves_are_refused() -> None:
    with pytest.raises(SpecError):
        plot_plateaus([1, 2, 3], [1, 2])
    with pytest.raises(DataError):
        plot_plateaus([1, 2, 3], [1, math.nan, 2])


def test_each_column_has_a_panel_and_each_curve_a_name() -> None:
    curves = [PlottedCurve(STEPS, LOSS + k, [ENDED], f"seed {k} <&$", y_label=label) for k, label in enumerate("aab")]
    first, second = draw_plateaus(curves).axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["seed 0 <&$", "seed 1 <&$"]
    assert second.get_legend() is None
    assert second.get_title("left") == "seed 2 <&$"


def test_long_curves_are_drawn_as_means_in_a_band() -> None:
    steps = np.arange(50_000.0)
    values = np.random.default_rng(0).normal(size=steps.size)
    ax = plot_plateaus(steps, values, []).axes[0]
    assert len(ax.lines[0].get_xdata()) == MOST_POINTS
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (values.min(), values.max())


@pytest.mark.parametrize(
    ("steps", "scale"), [(STEPS, "linear"), (2.0 ** np.arange(40), "log"), (2.0 ** np.arange(40) - 1, "symlog")]
)
def test_growing_distances_are_drawn_on_a_logarithmic_scale(steps: np.ndarray, scale: str) -> None:
    assert plot_plateaus(steps, np.linspace(1, 0, steps.size), []).axes[0].get_xscale() == scale


@pytest.mark.parametrize("values", [np.zeros(20), np.full(20, 1e300), np.full(20, 1e-300)])
def test_curves_without_a_range_are_drawn(tmp_path: Path, values: np.ndarray) -> None:
    assert save_plateaus([PlottedCurve(np.arange(20.0), values, [])], tmp_path / "flat.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<!doctype html>")]
)
def test_each_format_is_the_same_bytes_each_time(tmp_path: Path, form: str, start: bytes) -> None:
    curve = PlottedCurve(STEPS, LOSS, [ENDED, OPEN], "a <b> & $c$", marks=[(600.0, "epoch 1"), (600.0, "rate 0.1")])
    path = save_plateaus([curve], tmp_path / f"plot.{form}")
    data = path.read_bytes()
    assert data.startswith(start)
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert save_plateaus([curve], tmp_path / f"again.{form.upper()}").read_bytes() == data
    if form == "html":
        assert b"a &lt;b&gt; &amp; $c$" in data
        assert b"<b>" not in data


def test_other_formats_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"plot\.pgn: .*did you mean 'png'"):
        save_plateaus([], tmp_path / "plot.pgn")
