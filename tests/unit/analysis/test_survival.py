"""Censored times: medians, ratios and the log-rank test."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.analysis.survival import Bounded, logrank_p, median_time, pooled

times = st.integers(1, 10_000)
exact = times.map(Bounded.exactly)
censored = times.map(Bounded.above)


@given(st.lists(times, min_size=1, max_size=12))
def test_without_censoring_the_median_is_the_usual_one(values):
    found = median_time([Bounded.exactly(value) for value in values])
    assert found.exact
    assert found.low == pytest.approx(median(values))


@given(st.lists(censored, min_size=1, max_size=8))
def test_if_nobody_got_there_the_median_is_beyond_the_longest_run(runs):
    assert median_time(runs) == Bounded.above(max(run.low for run in runs))


@given(st.lists(times, min_size=1, max_size=9), st.integers(0, 9))
def test_a_run_cut_short_after_all_others_got_there_is_neither_dropped_nor_counted_as_there(values, n_more):
    longest = max(values) + 1
    runs = [Bounded.exactly(value) for value in values] + [Bounded.above(longest)] * n_more
    found, whole = median_time(runs), sorted([*values, *[math.inf] * n_more])
    half = len(whole) // 2
    middle = whole[half] if len(whole) % 2 else (whole[half - 1] + whole[half]) / 2
    assert found.exact == math.isfinite(middle)
    assert found.low == pytest.approx(middle) if found.exact else found.low <= longest


def test_half_of_two_runs_gives_a_bound_between_them():
    assert median_time([Bounded.exactly(900), Bounded.above(2000)]) == Bounded.above(1450)


def test_a_short_unfinished_run_says_little():
    """Kaplan-Meier: what stopped at 100 may still have got there at 500."""
    assert median_time([Bounded.exactly(500), Bounded.exactly(600), Bounded.above(100)]).low == 550


@given(exact | censored, exact | censored)
def test_a_ratio_is_a_value_or_a_bound(cost, other):
    ratio = pooled([cost.over(other)], median, median)
    if not cost.exact and not other.exact:
        assert ratio is None
    elif cost.exact and other.exact:
        assert ratio is not None
        assert ratio.exact
    else:
        assert ratio is not None
        assert math.isinf(ratio.high) if not cost.exact else ratio.low == 0


def test_nothing_is_known_of_a_ratio_to_nothing():
    for low, high in ((median, median), (min, max)):
        assert pooled([Bounded.exactly(5).over(Bounded.exactly(0))], low, high) is None
        assert pooled([], low, high) is None


@pytest.mark.parametrize(
    ("quantity", "digits", "text"),
    [
        (Bounded.exactly(2000), 0, "2,000"),
        (Bounded.above(2000), 0, "> 2,000"),
        (Bounded.above(3.19), 1, "> 3.1"),
        (Bounded.above(3.0 - 1e-12), 1, "> 3.0"),
        (Bounded(0, 0.81), 1, "< 0.9"),
        (Bounded(1.55, 2.01), 1, "1.5 to 2.1"),
    ],
)
def test_bounds_are_shown_rounded_outwards(quantity, digits, text):
    assert quantity.shown(digits) == text


@given(st.lists(st.tuples(times, times, st.booleans()), min_size=1, max_size=7))
def test_the_median_of_ratios_lies_in_their_range(pairs):
    ratios = [(Bounded.above(a) if cut else Bounded.exactly(a)).over(Bounded.exactly(b)) for a, b, cut in pairs]
    middle, spread = pooled(ratios, median, median), pooled(ratios, min, max)
    assert middle is not None
    assert spread is not None
    assert spread.low <= middle.low <= middle.high <= spread.high


def test_logrank_needs_three_runs_a_side_and_something_to_see():
    early, late = [Bounded.exactly(step) for step in (100, 110, 120)], [Bounded.above(1000)] * 3
    assert logrank_p(early[:2], late) is None
    assert logrank_p(late, late) is None
    p = logrank_p(early, late)
    assert p is not None
    assert p < 0.05
    assert p == pytest.approx(logrank_p(late, early))
    assert logrank_p(early, early) == pytest.approx(1.0)
