"""Plateaus of curves whose shape is known by construction, and the steps of escape and completion."""

import math

import numpy as np
import pytest

from unplateau.errors import DataError, SpecError
from unplateau.plateau.detect import find_plateaus
from unplateau.plateau.progress import completion_step, escape_step

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
