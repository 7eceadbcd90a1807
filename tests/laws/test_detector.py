"""The detector's law: no plateau on a curve without one, its end where it is, and no dependence on units.

The curves are those of ``benchmarks/detector.py``, which measures the same on hundreds of them.
"""

import runpy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.errors import SpecError
from unplateau.plateau import detect
from unplateau.plateau.detect import find_plateaus
from unplateau.plateau.progress import completion_step, escape_step
from unplateau.plateau.smoothing import undone

CURVES = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "detector.py"), run_name="curves")
KINKED = ("ramp", "exponential", "step")


def shares(make, seeds) -> list[float]:
    curves = [make(seed) for seed in seeds]
    return [off / curve.steps.size for curve in curves for off in CURVES["errors"](curve, CURVES["ended"](curve))]


def test_a_plateau_ends_where_it_ends() -> None:
    off = shares(lambda seed: CURVES["one_plateau"](seed, KINKED[seed % 3]), range(200, 230))
    assert np.median(off) <= 0.005
    assert max(off) <= 0.03


def test_rounded_plateaus() -> None:
    off = shares(lambda seed: CURVES["one_plateau"](seed, "sigmoid", log=False), range(200, 212))
    assert np.median(off) <= 0.01
    assert max(off) <= 0.03


def test_within_one_step_on_short_noisy_curves() -> None:
    off = shares(lambda seed: CURVES["one_plateau"](seed, KINKED[seed % 3], rows=200, log=False), range(200, 230))
    assert np.median(off) <= 1 / 200


def test_two_plateaus_are_found_as_two() -> None:
    off = shares(CURVES["two_plateaus"], range(200, 212))
    assert np.median(off) <= 0.01
    assert np.mean(np.isfinite(off)) >= 0.9


@pytest.mark.parametrize("kind", ["power", "exponential", "line", "noise"])
def test_no_ended_plateau_on_a_curve_without_one(kind: str) -> None:
    for seed in range(200, 212):
        assert not CURVES["ended"](CURVES["no_plateau"](seed, kind, smooth=seed % 3 == 0))


def test_a_flat_curve_has_not_ended() -> None:
    for seed in range(200, 212):
        curve = CURVES["unfinished"](seed)
        assert [each.ended for each in find_plateaus(curve.steps, curve.values)] == [False]


@pytest.mark.parametrize("kind", ["law", "sum", "logarithm", "warm-up"])
def test_what_still_falls_as_its_past_predicts_is_not_flat(kind: str) -> None:
    curves = [CURVES["still_falling"](seed, kind) for seed in range(200, 208)]  # every noise, at both distances
    assert not [seed for seed, each in enumerate(curves, 200) if open_parts(each)]


@pytest.mark.parametrize(
    ("kind", "called"),
    [("exponential", "levels off"), ("ramp", "levels off"), ("sigmoid", "levels off"), ("collapse", "collapsed")],
)
def test_what_has_arrived_is_said_to(kind: str, called: str) -> None:
    found = [open_parts(CURVES["arrived"](seed, kind)) for seed in range(200, 208)]
    assert all(kinds in ([], [called]) for kinds in found)
    assert sum(kinds == [called] for kinds in found) >= len(found) - 1


def open_parts(curve) -> list[str]:
    return [each.kind for each in find_plateaus(curve.steps, curve.values) if not each.ended]


@pytest.mark.parametrize(
    ("kind", "log"), [("ramp", False), ("ramp", True), ("step", False), ("stairs", False), ("sigmoid", False)]
)
def test_thinning_changes_an_end_by_less_than_its_interval(kind: str, log: bool) -> None:
    for seed in (201, 202):  # with noise, and without
        assert CURVES["agree"](CURVES["at_densities"](seed, kind, log=log)) == len(CURVES["DENSITIES"])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 20), st.sampled_from(KINKED), st.integers(2, 5))
def test_repeating_rows_changes_nothing(seed: int, kind: str, times: int) -> None:
    curve = CURVES["one_plateau"](seed, kind, rows=200)
    found = find_plateaus(curve.steps, curve.values)
    repeated = find_plateaus(np.repeat(curve.steps, times), np.repeat(curve.values, times))
    assert [(each.ended, each.kind) for each in repeated] == [(each.ended, each.kind) for each in found]
    for one, other in zip(found, repeated, strict=True):
        assert other.end == pytest.approx(one.end, abs=1e-6 * curve.steps[-1])


def test_a_small_step_hides_no_large_drop() -> None:
    for seed in range(200, 216):
        curve = CURVES["early_step"](seed)
        assert min(abs(off) for off in CURVES["nearest"](curve)) < 0.03 * curve.steps.size


def test_an_exponential_average_is_noticed_and_its_delay_undone() -> None:
    curves = [
        CURVES["smoothed"](CURVES["one_plateau"](seed, "ramp", rows=800, log=False), seed) for seed in range(200, 212)
    ]
    found = [(curve, CURVES["undone"](curve)) for curve in curves]
    assert sum(hasattr(one[0], "weight") for _, one in found) >= 11
    off = [CURVES["errors"](curve, one)[0] / curve.steps.size for curve, one in found]
    assert np.median(off) <= 0.002
    assert max(off) <= 0.02
    assert np.mean([CURVES["covered"](curve, one)[0] for curve, one in found]) >= 0.9


@pytest.mark.parametrize("smooth", [False, True])
def test_a_curve_that_was_not_smoothed_is_not_said_to_look_so(smooth: bool) -> None:
    for seed in range(200, 212):
        curve = CURVES["one_plateau"](seed, KINKED[seed % 3], smooth=smooth, rows=400)
        assert all(each.if_smoothed is None for each in find_plateaus(curve.steps, curve.values))


def test_smoothing_that_is_noticed_changes_no_other_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = CURVES["smoothed"](CURVES["one_plateau"](200, "ramp", log=False), 200)
    found = find_plateaus(curve.steps, curve.values)
    assert any(each.if_smoothed for each in found)
    monkeypatch.setattr(detect, "smoothing_weights", lambda errors: None)
    assert find_plateaus(curve.steps, curve.values) == [replace(each, if_smoothed=None) for each in found]


@pytest.mark.parametrize("loudness", [(0.03, 0.2), (0.002, 0.02)])
def test_an_average_that_is_told_changes_nothing(loudness: tuple[float, float]) -> None:
    """However quiet the noise: the plateaus are those of the raw values."""
    for seed in range(200, 206):
        raw = CURVES["one_plateau"](seed, KINKED[seed % 3], loudness=loudness, rows=400)
        curve = CURVES["smoothed"](raw, seed)
        found = find_plateaus(curve.steps, curve.values, smoothing=curve.weight)
        for one, other in zip(found, find_plateaus(raw.steps, raw.values), strict=True):
            assert (one.start, one.end, *one.interval) == pytest.approx((other.start, other.end, *other.interval))


@pytest.mark.parametrize("weight", [-0.1, 1.0, float("nan")])
def test_no_average_has_such_a_weight(weight: float) -> None:
    with pytest.raises(SpecError, match="smoothing must be a weight from 0 to less than 1"):
        find_plateaus(range(20), [float(value) for value in range(20)], smoothing=weight)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=50), st.floats(0, 0.99))
def test_undoing_gives_back_what_was_smoothed(values: list[float], weight: float) -> None:
    smooth = [values[0]]
    for value in values[1:]:
        smooth.append(weight * smooth[-1] + (1 - weight) * value)
    np.testing.assert_allclose(undone(np.array(smooth), weight), values, atol=1e-10)


scales = st.floats(-6, 6).map(lambda power: 10.0**power)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 20), st.sampled_from(KINKED), scales, scales, st.floats(-3, 3), st.floats(-1e3, 1e3))
def test_units_change_nothing(seed: int, kind: str, long: float, high: float, up: float, later: float) -> None:
    curve = CURVES["one_plateau"](seed, kind, rows=200)
    plain = find_plateaus(curve.steps, curve.values)
    scaled = find_plateaus(curve.steps * long + later, curve.values * high + up * high)
    assert [each.ended for each in scaled] == [each.ended for each in plain]
    for one, other in zip(plain, scaled, strict=True):
        for name in ("start", "end"):
            assert getattr(other, name) == pytest.approx(getattr(one, name) * long + later, rel=1e-6, abs=1e-6 * long)
        assert other.level == pytest.approx((one.level + up) * high, rel=1e-6, abs=1e-6 * high)
        assert other.interval[0] == pytest.approx(one.interval[0] * long + later, rel=1e-6, abs=1e-6 * long)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 20), st.sampled_from(KINKED))
def test_fields_are_in_order(seed: int, kind: str) -> None:
    curve = CURVES["one_plateau"](seed, kind, rows=200)
    found = find_plateaus(curve.steps, curve.values)
    for plateau in found:
        assert curve.steps[0] <= plateau.start < plateau.end <= curve.steps[-1]
        assert plateau.interval[0] <= plateau.end <= plateau.interval[1]
        assert curve.values.min() <= plateau.level <= curve.values.max()
    assert all(one.end <= next_one.start for one, next_one in pairwise(found))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=60), st.sampled_from([1, 10, 100]))
def test_escape_holds_to_the_end_and_not_a_row_before(values: list[float], every: int) -> None:
    steps = [every * row for row in range(len(values))]
    means = [np.mean([v for t, v in zip(steps, values, strict=True) if s - 100 < t <= s]) for s in steps]
    escape = escape_step(steps, values)
    if escape is None:
        assert means[-1] < 0.2
    else:
        row = steps.index(int(escape))
        assert min(means[row:]) >= 0.2
        assert row == 0 or means[row - 1] < 0.2
    completion = completion_step(steps, values)
    assert completion is None or (escape is not None and escape <= completion)
