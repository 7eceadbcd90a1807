"""Figures: drawn without global state, the same bytes each time, with their numbers as CSV."""

import csv

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_directories import LAYERS, MadeRun, make_run, make_runs
from unplateau.analysis.compare import by_strategy
from unplateau.analysis.runs import summarise_run
from unplateau.errors import SpecError
from unplateau.plateau.progress import trailing_means
from unplateau.report import figures, save_figures
from unplateau.report.curves import all_panels
from unplateau.report.panels import MOST_COLUMNS, MOST_POINTS, HeatPanel, merged
from unplateau.report.plots import single, spread
from unplateau.report.style import looks, printable

KINDS = ["progress-by-step", "progress-by-compute", "loss", "accuracy", "weights-score", "context-score", "layers"]
KINDS += ["items-stand-out", "labels-are-bound", "labels-are-kept", "queries-look"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = [MadeRun("plain"), MadeRun("mixed", 0, 600), MadeRun("mixed", 1, 700)]
    return make_runs(tmp_path_factory.mktemp("runs"), made)


def panels_of(records):
    return all_panels(by_strategy([summarise_run(record) for record in records]))


def test_a_figure_of_each_kind_with_a_panel_for_each_strategy(runs):
    drawn = figures(runs)
    assert [*drawn] == KINDS
    assert [axes.get_title(loc="left") for axes in drawn["loss"].axes] == ["plain", "mixed"]


def test_no_global_state_changes(runs):
    before = dict(mpl.rcParams)
    figures(runs)
    assert dict(mpl.rcParams) == before


def test_the_users_settings_do_not_change_the_picture(runs, tmp_path):
    (plain,) = [path for path in save_figures(runs[:1], tmp_path / "a", ["svg"]) if path.stem == "loss"]
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "lines.linewidth": 9, "axes.facecolor": "red"}):
        (other,) = [path for path in save_figures(runs[:1], tmp_path / "b", ["svg"]) if path.stem == "loss"]
    assert plain.read_bytes() == other.read_bytes()


def test_csv_holds_the_numbers(runs, tmp_path):
    written = save_figures(runs, tmp_path, ["csv"])
    assert [path.name for path in written] == [f"{kind}.csv" for kind in KINDS]
    rows = list(csv.DictReader((tmp_path / "loss.csv").read_text().splitlines()))
    assert {row["strategy"] for row in rows} == {"plain", "mixed"}
    ours = [float(row["loss (nats)"]) for row in rows if (row["strategy"], row["seed"]) == ("mixed", "1")]
    assert ours == pytest.approx(runs[2].history.column("loss")[1])
    layers = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    assert {row["layer"] for row in layers} == {str(layer) for layer in range(LAYERS + 1)}


def test_every_format_is_written(runs, tmp_path):
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for path in save_figures(runs[:1], tmp_path):
        assert path.read_bytes().startswith(starts[path.suffix[1:]])
    with pytest.raises(SpecError, match="did you mean 'png'"):
        save_figures(runs, tmp_path, ["pngg"])


def test_alt_texts_state_the_numbers(runs):
    panels = panels_of(runs)
    loss = next(panel for panel in panels["loss"] if panel.strategy == "mixed")
    escape = summarise_run(runs[1]).escape_step
    assert f"escape at step {escape:,}" in loss.alt
    assert "Bayes-optimal" in loss.alt or "bayes-optimal" in loss.alt
    assert all(panel.alt for kind in panels.values() for panel in kind)


def test_without_probes_there_are_no_scores(tmp_path):
    record = make_run(tmp_path, MadeRun(probes=False))
    assert [*panels_of([record])] == KINDS[:4]


def test_long_runs_are_drawn_with_few_points(tmp_path):
    record = make_run(tmp_path, MadeRun(falls=9000, steps=15_000))
    panels = {kind: panel for kind, (panel,) in panels_of([record]).items()}
    assert len(panels["loss"].lines[0].x) == MOST_POINTS
    assert panels["layers"].values.shape == (LAYERS + 1, MOST_COLUMNS)
    assert len(panels["layers"].edges) == MOST_COLUMNS + 1


def test_names_of_levels_stand_where_no_curve_comes(runs):
    panels = [panel for kind in panels_of(runs).values() for panel in kind if not isinstance(panel, HeatPanel)]
    for panel in panels:
        figure = single(panel)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        names = [text.get_window_extent() for text in axes.texts]
        assert len(names) == len(panel.levels) + bool(getattr(panel, "controls", ()))
        assert all(axes.bbox.x1 < name.x0 < name.x1 <= figure.bbox.x1 for name in names)
        assert not any(one.overlaps(other) for one in names for other in names if one is not other)


def test_plain_training_is_seen_below_what_lies_on_it(runs):
    (axes,) = single(panels_of(runs)["progress-by-step"][0]).axes
    plain, *others = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert plain.get_color() == looks(["plain"])["plain"].colour
    assert all(plain.get_linewidth() > 1.5 * line.get_linewidth() for line in others)
    assert all(plain.get_zorder() < line.get_zorder() for line in others)


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.01, 0.2))
def test_names_that_are_spread_keep_their_order_and_a_distance(heights, apart):
    placed = spread(dict(enumerate(heights)), apart)
    assert [heights[name] for name in placed] == sorted(heights)
    assert (np.diff([*placed.values()]) >= apart - 1e-9).all()
    wide = all(abs(one - other) >= apart for i, one in enumerate(heights) for other in heights[:i])
    assert not wide or placed == pytest.approx(dict(enumerate(heights)))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_merging_keeps_means_and_order(values, most):
    x, y = merged(range(len(values)), values, most)
    assert len(x) == len(y) == min(most, len(values))
    assert (np.diff(x) > 0).all()
    assert min(values) - 1e-6 <= y.min() <= y.max() <= max(values) + 1e-6


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60))
def test_the_running_mean_is_that_of_the_last_hundred_steps(values):
    steps = [10 * index for index in range(len(values))]
    means = trailing_means(steps, values)
    for index in (0, len(values) // 2, len(values) - 1):
        assert means[index] == pytest.approx(np.mean(values[max(0, index - 9) : index + 1]), abs=1e-9)


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=20))
def test_no_two_strategies_look_the_same(names):
    chosen = looks(names)
    assert len(set(chosen.values())) == len(chosen)
    assert chosen == looks(names[::-1])


@given(st.text(max_size=200))
def test_labels_are_printable_and_fit(text):
    label = printable(text)
    assert label
    assert label.isprintable()
    assert len(label) <= 48
