"""Plateaus of curves whose shape is known by construction, and the steps of escape and completion."""

import math

import numpy as np
import pytest

from unplateau.errors import DataError, SpecError
from unplateau.plateau import fit
from unplateau.plateau.detect import find_plateaus
from unplateau.plateau.progress import completion_step, escape_step, step_shown

STEPS = np.arange(200.0)
NOISE = 0.02 * np.random.default_rng(0).normal(size=200)
DROP = np.clip(1 - (STEPS - 120) / 20, 0, 1)


def ends(values: np.ndarray, **options: object) -> list[float]:
    return [each.end for each in find_plateaus(STEPS, values, **options) if each.ended]  # type: ignore[arg-type]


def test_the_end_of_a_plateau_is_its_knee() -> None:
    [plateau, bottom] = find_plateaus(STEPS, DROP + NOISE)
    assert (plateau.start, plateau.ended) == (0, True)
    assert plateau.end == pytest.approx(120, abs=1)
    assert plateau.level == pytest.approx(1, abs=0.01)
    assert plateau.interval[0] <= 120 <= plateau.interval[1]
    assert (bottom.ended, bottom.end, bottom.interval) == (False, 199, (199, math.inf))


@pytest.mark.parametrize(
    "values",
    [
        DROP,
        np.where(STEPS > 120, np.exp(-(STEPS - 120) / 20), 1.0),
        np.where(STEPS <= 120, 1.0, 0.0),
        np.where(STEPS <= 120, 1.0, 1 - (np.abs(STEPS - 120) / 79) ** 0.5),
    ],
)
def test_drops_of_any_shape_without_noise(values: np.ndarray) -> None:
    assert ends(values) == pytest.approx([120], abs=1)


def test_a_rounded_plateau_ends_where_the_straight_part_of_the_drop_meets_the_level() -> None:
    assert 100 - 2.7 * 6 <= ends(1 / (1 + np.exp((STEPS - 100) / 6)))[0] <= 100 - 2.0 * 6


def test_a_staircase_has_two() -> None:
    values = 2.0 - (STEPS >= 60) - np.clip((STEPS - 130) / 20, 0, 1) + NOISE
    assert ends(values) == pytest.approx([60, 130], abs=1.5)


@pytest.mark.parametrize(("together", "large"), [(1, 500), (99, 500), (99, 10**6)])
def test_how_many_knots_are_tried_together_changes_no_bit(
    together: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = 2.0 - (STEPS >= 60) - np.clip((STEPS - 130) / 20, 0, 1) + 5 * np.exp(-STEPS / 5) + 2 * NOISE
    found = find_plateaus(STEPS, values)
    monkeypatch.setattr(fit, "TOGETHER", together)
    monkeypatch.setattr(fit, "LARGE", large)
    assert find_plateaus(STEPS, values) == found != []


def test_a_first_descent_is_not_part_of_the_plateau() -> None:
    [plateau, _] = find_plateaus(STEPS, 5 * np.exp(-STEPS / 5) + DROP + NOISE)
    assert 10 < plateau.start < 40
    assert plateau.end == pytest.approx(120, abs=1)


def test_accuracy_goes_up() -> None:
    rising = [(each.start, each.end, -each.level) for each in find_plateaus(STEPS, -DROP - NOISE, direction="max")]
    assert rising == [(each.start, each.end, each.level) for each in find_plateaus(STEPS, DROP + NOISE)]


@pytest.mark.parametrize("values", [np.full(200, 1.386), 1.386 + NOISE, 1.386 + np.where(STEPS == 80, -5.0, NOISE)])
def test_a_flat_curve_is_one_plateau_that_has_not_ended(values: np.ndarray) -> None:
    [plateau] = find_plateaus(STEPS, values)
    assert (plateau.start, plateau.end, plateau.ended) == (0, 199, False)
    assert plateau.level == pytest.approx(1.386, abs=0.01)


@pytest.mark.parametrize("rows", [4, 8])
@pytest.mark.parametrize("height", [-3.0, 3.0])
def test_a_blip_ends_nothing_and_begins_nothing(rows: int, height: float) -> None:
    values = DROP + NOISE
    values[60 : 60 + rows] += height
    [plateau] = [each for each in find_plateaus(STEPS, values) if each.ended]
    assert plateau.end == pytest.approx(120, abs=1.5)
    assert plateau.level == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "values", [-STEPS, STEPS, (STEPS + 1) ** -0.5, np.exp(-STEPS / 30), np.log(STEPS + 1), -((STEPS / 200) ** 2)]
)
def test_curves_without_a_knee(values: np.ndarray) -> None:
    assert not ends(values)
    assert not ends(values + NOISE * np.ptp(values))


def test_a_curve_at_its_ceiling_is_no_plateau() -> None:
    assert [each.ended for each in find_plateaus(STEPS, DROP + NOISE, ceiling=0.0)] == [True]
    assert [each.ended for each in find_plateaus(STEPS, DROP + NOISE, floor=1.0, ceiling=-1.0)] == [True, False]
    assert find_plateaus(STEPS, NOISE, ceiling=0.0) == []
    assert find_plateaus(STEPS, 1 - NOISE, ceiling=1.0, floor=0.25, direction="max") == []


def test_a_flat_part_above_the_floor_is_no_plateau() -> None:
    values = np.where(STEPS < 50, 10.0, 1.386) + NOISE
    assert [(each.start, each.ended) for each in find_plateaus(STEPS, values, floor=1.386)] == [
        (pytest.approx(50, abs=1), False)
    ]
    assert len(find_plateaus(STEPS, values)) == 2


LONG = np.arange(0, 60000, 1000.0)


@pytest.mark.parametrize("exponent", [0.05, 0.2, 0.35, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("start", [10, 100, 1000])
@pytest.mark.parametrize("rows", [60, 600])
def test_a_power_law_has_no_plateau(exponent: float, start: float, rows: int) -> None:
    steps = np.linspace(0, 59000, rows)
    assert find_plateaus(steps, 1.7 + 9.3 * (1 + steps / start) ** -exponent) == []


@pytest.mark.parametrize("level", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("shape", [lambda t: -0.6 * np.log(1 + t), lambda t: 3 * (1 + t) ** -0.1 + 4 * (1 + t) ** -0.6])
def test_a_logarithm_and_a_sum_of_power_laws_have_none_either(shape, level: float) -> None:  # type: ignore[no-untyped-def]
    noise = level * np.random.default_rng(0).normal(size=LONG.size)
    assert find_plateaus(LONG, 8 + shape(LONG / 100) + noise) == []
    assert find_plateaus(LONG, -8 - shape(LONG / 100) - noise, direction="max") == []


def test_a_floor_far_above_and_a_ceiling_make_no_plateau_of_a_power_law() -> None:
    values = 1.7 + 9.3 * (1 + LONG / 100) ** -0.35
    assert find_plateaus(LONG, values, floor=11.0, ceiling=1.7) == []


def test_a_language_model_that_warms_up_has_no_plateau_where_it_stops() -> None:
    for seed in range(6):
        noise = 0.03 * np.random.default_rng(seed).normal(size=400)
        steps = np.linspace(0, 1e5, 400)
        values = 2.5 + 8.3 * (1 + np.maximum(steps - 1000, 0) / 200) ** -(0.1 + 0.08 * seed)
        assert all(each.ended for each in find_plateaus(steps, values + noise))


@pytest.mark.parametrize("rows", [3, 9, 20])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_rise_at_the_start_is_not_part_of_the_flat_rest(rows: int, noise: float) -> None:
    values = np.full(200, 0.001)
    values[:rows] = np.linspace(5, 100, rows)
    [flat] = find_plateaus(STEPS, values + noise * NOISE / 0.02)
    assert flat.start == pytest.approx(rows, abs=1)
    assert flat.level == pytest.approx(0.001, abs=0.15 * noise + 1e-6)


@pytest.mark.parametrize("steps", [np.linspace(1, 1e4, 200), np.geomspace(1, 1e4, 200)])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_small_early_step_does_not_hide_the_large_drop(steps: np.ndarray, noise: float) -> None:
    values = -0.1 * (STEPS >= 30) + 1.5 * DROP + noise * NOISE
    found = [each.end for each in find_plateaus(steps, values) if each.ended]
    assert np.interp(found[-1], steps, STEPS) == pytest.approx(120, abs=2)


CORNERS = ([0, 800, 2800, 4200, 5600], [0, 0, 0.15, 0.9, 1])


@pytest.mark.parametrize("last", [4, 5])
@pytest.mark.parametrize("rows", [22, 29, 43, 57, 85, 113, 169, 225, 337, 1000, 4201])
def test_an_end_is_found_however_densely_a_curve_is_logged(last: int, rows: int) -> None:
    """A slow rise before a fast one is a bend: the end lies where the fast one would meet the level."""
    steps = np.linspace(0, CORNERS[0][last - 1], rows)
    values = np.interp(steps, CORNERS[0][:last], CORNERS[1][:last])
    [end] = [each for each in find_plateaus(steps, values, direction="max") if each.ended]
    assert end.end == pytest.approx(2540, abs=60)
    assert end.interval[0] <= 2540 <= end.interval[1]


def kinds(values: np.ndarray, **options: float) -> list[str]:
    return [each.kind for each in find_plateaus(STEPS, values + NOISE, **options) if not each.ended]  # type: ignore[arg-type]


def test_what_a_curve_stops_in_is_told_by_what_came_before() -> None:
    lost = np.interp(STEPS, [0, 50, 70, 110, 130, 199], [1, 1, 0.1, 0.1, 1, 1])
    assert kinds(np.ones(200)) == ["plateau"]
    assert kinds(DROP) == ["levels off"]
    assert kinds(np.exp(-STEPS / 10)) == ["levels off"]
    assert kinds(lost) == ["collapsed"]
    assert kinds(lost, floor=1.0, ceiling=0.0) == ["collapsed"]
    assert kinds(DROP, floor=1.0, ceiling=-1.0) == ["plateau"]
    assert kinds(0.3 + 5 * np.exp(-STEPS / 3), floor=0.3) == ["plateau"]
    assert all(each.kind == "plateau" for each in find_plateaus(STEPS, DROP + NOISE) if each.ended)


def test_words_tell_the_three_apart() -> None:
    lost = np.interp(STEPS, [0, 50, 70, 110, 130, 199], [1, 1, 0.1, 0.1, 1, 1])
    said = [str(find_plateaus(STEPS, values + NOISE)[-1]) for values in (np.ones(200), DROP, lost)]
    assert [words.split(", from")[0] for words in said[1:]] == [
        "levels off after learning",
        "levels off after a collapse",
    ]
    assert said[0].startswith("plateau from 0 to 199")
    assert [find_plateaus(STEPS, DROP + NOISE)[-1].as_dict()[name] for name in ("kind", "ended")] == [
        "levels off",
        False,
    ]


def test_an_end_that_slopes_is_no_flat_part() -> None:
    assert [each.ended for each in find_plateaus(STEPS, np.interp(STEPS, [0, 100, 199], [1, 0.3, 0.2]) + NOISE)] == []
    assert [each.ended for each in find_plateaus(STEPS, 1.386 - 0.001 * STEPS + NOISE)] == []


def test_few_rows() -> None:
    assert find_plateaus([], []) == []
    assert find_plateaus(range(7), [1.0] * 7) == []
    assert [each.ended for each in find_plateaus(range(8), [1.0] * 8)] == [False]
    steps = np.arange(24)
    assert [each.end for each in find_plateaus(steps, np.where(steps < 12, 1.0, 0.0)) if each.ended] == [11]


def test_equal_steps_are_averaged() -> None:
    both = np.concatenate([DROP + NOISE, DROP - NOISE])
    order = np.argsort(np.concatenate([STEPS, STEPS]), kind="stable")
    found = find_plateaus(np.concatenate([STEPS, STEPS])[order], both[order])
    assert found[0].end == pytest.approx(120, abs=0.1)


@pytest.mark.parametrize(
    ("steps", "values", "options", "error"),
    [
        ([0, 2, 1], [1, 2, 3], {}, DataError),
        ([0, math.nan], [1, 2], {}, DataError),
        ([0, 1], [1, math.inf], {}, DataError),
        (["a"], [1], {}, DataError),
        ([0, 1], [1], {}, SpecError),
        ([[0, 1]], [[1, 2]], {}, SpecError),
        ([0, 1], [1, 2], {"direction": "up"}, SpecError),
        ([0, 1], [1, 2], {"floor": 0.0, "ceiling": 1.0}, SpecError),
        ([0, 1], [1, 2], {"floor": 1.0, "ceiling": 0.0, "direction": "max"}, SpecError),
        ([0, 1], [1, 2], {"floor": math.nan}, SpecError),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(steps, values, options, error) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as caught:
        find_plateaus(steps, values, **options)
    assert "\n" not in str(caught.value)


def test_escape_is_the_first_step_from_which_the_trailing_mean_stays_up() -> None:
    steps = list(range(0, 400, 10))
    assert escape_step(steps, [0.0] * 20 + [1.0] * 20) == 210  # 2 of the 10 rows of the window are up: 0.2
    assert completion_step(steps, [0.0] * 20 + [1.0] * 20) == 280
    touched = [0.0] * 5 + [1.0] * 12 + [0.0] * 12 + [1.0] * 11
    assert escape_step(steps, touched) == 300
    assert escape_step(steps, [0.0] * 40) is None
    assert escape_step(steps, [1.0] * 20 + [0.0] * 20) is None
    assert escape_step(steps, [1.0] * 40) == 0
    assert escape_step([], []) is None


def test_a_mean_that_equals_the_threshold_is_not_below_it_whatever_came_before() -> None:
    progress = [0.1] * 30 + [0.2] * 30
    assert escape_step(range(0, 600, 10), progress) == 390


def test_the_window_counts_steps_not_rows() -> None:
    sparse, dense = list(range(0, 400, 50)), list(range(400))
    assert escape_step(sparse, [float(step >= 200) for step in sparse]) == 200
    assert escape_step(dense, [float(step >= 200) for step in dense]) == 219
    assert escape_step(dense, [float(step >= 200) for step in dense], window=1) == 200


def test_escape_refuses_what_has_no_order() -> None:
    for steps, values in (([0, 2, 1], [0, 0, 0]), ([0, 1], [0, math.nan])):
        with pytest.raises(DataError):
            escape_step(steps, values)
    with pytest.raises(SpecError):
        escape_step([0], [0], window=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [1, 3])
def test_a_rise_to_chance_is_no_learning_so_the_flat_part_after_it_is_a_plateau(seed: int, rows: int) -> None:
    """Accuracy of 0 until the model names one of the words in the list, then chance to the end."""
    noise = 0.025 * np.random.default_rng(seed).normal(size=46)
    accuracy = np.where(np.arange(46) < rows, 0.04, 0.24) + noise
    steps = 20.0 * np.arange(46)
    [plateau] = find_plateaus(steps, accuracy, floor=0.25, ceiling=0.85, direction="max")
    assert not plateau.ended
    assert plateau.start <= 100
    assert plateau.level == pytest.approx(0.24, abs=0.02)


@pytest.mark.parametrize(
    ("step", "shown"),
    [(600.0, "600"), (2416.25, "2416.25"), (3_698_870.0, "3698870"), (12_345_678_901.0, "12345678901")],
)
def test_steps_of_millions_are_shown_to_the_last_digit(step: float, shown: str) -> None:
    assert step_shown(step) == shown
