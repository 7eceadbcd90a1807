"""Drops that come with an epoch, a rate or a resume are told as such, and no others."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from unplateau.logs.stairs import coincident, drops, new_epochs, new_rates, resumed
from unplateau.plateau.detect import Plateau

STEPS = [float(step) for step in range(0, 1000, 5)]
EPOCHS = [step // 200 for step in STEPS]


def noisy(value: Callable[[float], float], sd: float = 0.02, seed: int = 0) -> list[float]:
    noise = np.random.default_rng(seed).normal(0, sd, len(STEPS))
    return [value(step) + one for step, one in zip(STEPS, noise.tolist(), strict=True)]


def test_epochs_counted_whole_begin_between_rows() -> None:
    found = new_epochs(STEPS, EPOCHS)
    assert [(event.after, event.step) for event in found] == [(195, 200), (395, 400), (595, 600), (795, 800)]
    assert found[0].words == "epoch 1 begins"


def test_epochs_counted_in_parts_begin_where_they_are_passed() -> None:
    found = new_epochs([0.0, 30.0, 60.0, 90.0], [0.0, 0.75, 1.5, 2.25])
    assert [event.step for event in found] == pytest.approx([40, 80])
    assert [event.after for event in found] == pytest.approx([40, 80])


@pytest.mark.parametrize(
    ("rate", "changes"),
    [
        (lambda s: 0.1, []),
        (lambda s: 0.1 if s < 400 else 0.01, [400]),
        (lambda s: 0.1 * 0.1 ** (s // 300), [300, 600, 900]),
        (lambda s: 1e-3 * (1 + math.cos(math.pi * s / 1000)), []),
        (lambda s: 1e-3 * (1 - s / 1000), []),
        (lambda s: 1e-3 * min(s / 200, 1) if s < 600 else 1e-4, [600]),
        (lambda s: 1e-3 * min(s / 200, (1200 - s) / 1000), [205]),
        (lambda s: 1e-3 * (1 + math.cos(math.pi * (s % 400) / 400)), [400, 800]),
        (lambda s: 1e-3 * 0.99**s, []),
    ],
)
def test_rates_change_suddenly_or_not_at_all(rate: Callable[[float], float], changes: list[float]) -> None:
    found = [event.step for event in new_rates(STEPS, [rate(step) for step in STEPS])]
    assert [step for step in found if step not in changes and abs(step - 205) > 5] == []
    assert set(changes) <= set(found)


@pytest.mark.parametrize("seed", range(5))
def test_stairs_at_epochs_are_told_with_their_height(seed: int) -> None:
    values = noisy(lambda s: 3 - 0.4 * (s // 200) - 0.0002 * (s % 200), seed=seed)
    found = drops(STEPS, values, new_epochs(STEPS, EPOCHS), "min")
    assert [drop.event.step for drop in found] == [200, 400, 600, 800]
    assert [drop.by for drop in found] == pytest.approx([0.36] * 4, abs=0.05)
    rising = drops(STEPS, [-value for value in values], new_epochs(STEPS, EPOCHS), "max")
    assert [drop.by for drop in rising] == [drop.by for drop in found]
    assert str(found[0]).startswith("drops by ")
    assert str(rising[0]).startswith("rises by ")


@pytest.mark.parametrize(
    "value",
    [
        lambda s: 1.0,
        lambda s: 3 - s / 400,
        lambda s: 3 * (1 + s / 50) ** -0.4,
        lambda s: 2 * math.exp(-s / 300),
        lambda s: 2 - 1.5 * min(1, max(0, (s - 500) / 250)),  # the drop passes the events at 600
        lambda s: 1 + 0.5 * (s // 200),  # it rises
    ],
)
@pytest.mark.parametrize("seed", range(8))
def test_no_stairs_where_there_are_none(value: Callable[[float], float], seed: int) -> None:
    assert drops(STEPS, noisy(value, seed=seed), new_epochs(STEPS, EPOCHS), "min") == []


def test_too_few_rows_beside_events_tell_nothing() -> None:
    assert drops(STEPS, noisy(lambda s: -s), new_epochs(STEPS, [step // 10 for step in STEPS]), "min") == []


def ended(low: float, high: float) -> Plateau:
    return Plateau(0.0, (low + high) / 2, 1.0, True, (low, high))


def test_an_end_coincides_with_what_lies_in_its_interval() -> None:
    events = [*new_epochs(STEPS, EPOCHS), *resumed([595.0], STEPS)]
    assert [event.words for event in coincident(ended(390, 400), events, STEPS)] == ["epoch 2 begins"]
    assert [event.what for event in coincident(ended(580, 620), events, STEPS)] == ["epoch", "resume"]
    assert coincident(ended(300, 320), events, STEPS) == []
    assert coincident(Plateau(0.0, 400.0, 1.0, False, (400.0, math.inf)), events, STEPS) == []


def test_epochs_so_dense_that_one_must_coincide_tell_nothing() -> None:
    events = new_epochs(STEPS, [step // 20 for step in STEPS])
    assert coincident(ended(390, 410), events, STEPS) == []
