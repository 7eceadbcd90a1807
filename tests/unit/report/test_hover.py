"""What a mouse finds in a picture: the nearest value, in areas that do not hide each other."""

import re
from itertools import pairwise

import numpy as np
import pytest

from run_directories import LAYERS, MadeRun, make_runs
from unplateau.analysis.compare import by_strategy
from unplateau.analysis.runs import summarise_run
from unplateau.report.curves import all_panels
from unplateau.report.hover import MOST_TEXTS, STOPS, Area, areas
from unplateau.report.page import inline_svg


def panels_of(folder, made):
    return all_panels(by_strategy([summarise_run(record) for record in make_runs(folder, made)]))


@pytest.fixture(scope="module")
def panels(tmp_path_factory):
    made = [MadeRun(falls=1600), *(MadeRun("mixed", seed, 600 + 100 * seed) for seed in range(2))]
    return panels_of(tmp_path_factory.mktemp("runs"), made)


def found(panel, x, y):
    """The text at this point of the panel, in its own units; the uppermost area counts."""
    x_low, x_high, y_low, y_high = panel.limits
    along, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
    texts = [one.text for one in areas(panel) if one.left <= along <= one.right and one.low <= up <= one.high]
    return texts[-1] if texts else None


def test_the_value_of_the_nearest_line(panels):
    (panel,) = panels["progress-by-step"]
    (_, _, (plain,)), (_, _, (first, _)) = panel.groups
    at = int(np.searchsorted(first.x, 1000))
    told = found(panel, 1000, first.y[at]).split("\n")
    assert f"mixed, seed 0, step 1,030: progress {first.y[at + 3]:.2f} (escape at step 610)" in told
    assert found(panel, 1000, plain.y[at]).startswith("plain, seed 0, step 1,030: progress")
    assert found(panel, 1000, 0.5) is None
    for x, y in first.points:  # also where it is steep
        assert y < panel.limits[2] or "mixed, seed 0" in found(panel, x, y)


def test_compute_is_told_in_its_unit(panels):
    (panel,) = panels["progress-by-compute"]
    line = panel.groups[1][2][0]
    assert "TFLOP: progress" in found(panel, line.x[60], line.y[60])
    assert "(escape at 1.52 TFLOP)" in found(panel, line.x[60], line.y[60])


def test_plateaus_and_escapes(panels):
    _, panel = panels["loss"]
    text = found(panel, 300, panel.limits[2])
    assert "seed 0: plateau from step" in text
    assert "seed 1: plateau from step" in text
    line = panel.lines[1]
    assert found(panel, *line.mark) == "mixed, seed 1: escape at step 710"


def test_cells_of_a_map(panels):
    _, panel = panels["layers"]
    value = panel.values[3, 7]
    assert found(panel, panel.steps[7], 3) == f"block 3, step {panel.steps[7]:,.0f}: weights score {value:.2f}"
    assert found(panel, panel.steps[7], 0).startswith("embedding, step 700: ")
    texts = [one.text for one in areas(panel) if "weights score" in one.text]
    assert len(texts) == len(set(texts)) == len(panel.steps) * (LAYERS + 1)


def test_areas_are_large_enough_and_apart(panels):
    for panel in (panel for kind in panels.values() for panel in kind):
        told = [one for one in areas(panel) if not re.search(r"plateau|: escape|^escape", one.text)]
        assert all(0 <= one.left < one.right <= 1 and one.low < one.high for one in told)
        assert len({one.left for one in told}) <= STOPS
        columns = {}
        for one in told:
            columns.setdefault(one.left, []).append(one)
        for column in columns.values():
            column.sort(key=lambda one: one.low)
            gaps = [above.low - below.high for below, above in pairwise(column)]
            assert min(gaps, default=0) >= -1e-9


def test_many_lines_in_one_place_are_counted(tmp_path):
    (panel,) = panels_of(tmp_path, [MadeRun(seed=seed, probes=False) for seed in range(MOST_TEXTS + 3)])["loss"]
    text = found(panel, 1500, panel.lines[0].y[-1])
    assert text.split("\n")[-1] == "and 3 more"
    assert len(text.split("\n")) == MOST_TEXTS + 1


def test_nothing_to_find_in_a_run_without_rows(tmp_path):
    for kind in panels_of(tmp_path, [MadeRun(steps=0, finished=False, eval_every=1)]).values():
        assert all(isinstance(one, Area) and np.isfinite(one[:4]).all() for panel in kind for one in areas(panel))


def test_names_in_titles_are_text(tmp_path):
    name = "<script>alert(1)</script>&\"'"
    panels = panels_of(tmp_path, [MadeRun(name, falls=500)])
    svg = inline_svg(panels["loss"][0], "p0")
    assert "<script" not in svg
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in svg
    assert svg.count("<title>") == svg.count("</title>") > 20
