"""Censored times: medians, ratios and the log-rank test."""

import math
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unplateau.analysis.survival import (
    Bounded,
    Estimate,
    follow_up,
    logrank_p,
    median_band,
    median_time,
    paired_p,
    pooled,
    restricted_mean,
    restricted_ratio,
    share_within,
)

times = st.integers(1, 10_000)
exact = times.map(Bounded.exactly)
censored = times.map(Bounded.above)


@given(st.lists(times, min_size=1, max_size=12))
def test_without_censoring_the_median_is_the_usual_one(values):
    found = median_time([Bounded.exactly(value) for value in values])
    assert found.exact
    assert found.low == pytest.approx(median(values))


@given(st.lists(censored, min_size=1, max_size=8))
def test_if_nobody_got_there_the_median_is_beyond_the_middle_of_the_last_steps(runs):
    assert median_time(runs) == Bounded.above(median(run.low for run in runs))


@given(st.lists(exact | censored, min_size=1, max_size=9), st.data())
def test_a_bound_holds_wherever_censored_runs_end_up(runs, data):
    """Whatever the unknown times are, the median of all is not below a bound that was claimed."""
    found = median_time(runs)
    if not found.exact:
        late = [time.low + (0 if time.exact else data.draw(times)) for time in runs]
        assert median(late) >= found.low


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
    assert logrank_p(early, late) == pytest.approx(2 / 20)
    assert logrank_p(late, early) == pytest.approx(2 / 20)
    assert logrank_p(early, early) == pytest.approx(1.0)


@given(st.lists(times, min_size=1, max_size=9), times)
def test_a_restricted_mean_counts_what_exceeds_the_budget_as_the_budget(values, budget):
    runs = [Bounded.exactly(value) for value in values]
    wanted = fmean(min(value, budget) for value in values)
    assert restricted_mean(runs, budget) == pytest.approx(wanted)
    seen = [Bounded.above(budget) if value > budget else Bounded.exactly(value) for value in values]
    assert restricted_mean(seen, budget) == pytest.approx(wanted)


@given(st.lists(exact | censored, min_size=2, max_size=8), st.lists(exact | censored, min_size=2, max_size=8))
@settings(max_examples=25, deadline=None)
def test_a_restricted_ratio_is_between_its_ends_and_has_no_unit(theirs, ours):
    budget = min(follow_up(side, [time.low for time in side]) for side in (theirs, ours))
    found = restricted_ratio(theirs, ours, budget)
    if not any(time.exact and time.low <= budget for time in (*theirs, *ours)):
        assert found is None
        return
    assert found.low <= found.value <= found.high
    scaled = [[Bounded(4 * time.low, 4 * time.high) for time in side] for side in (theirs, ours)]
    assert restricted_ratio(*scaled, 4 * budget) == found


def test_a_side_that_never_got_there_still_leaves_room():
    ours = [Bounded.exactly(value) for value in (180, 200, 220, 260, 280)]
    found = restricted_ratio([Bounded.above(1400)] * 5, ours, 1400)
    assert found.value == pytest.approx(1400 / 228)
    assert found.low < 0.8 * found.value
    few = restricted_ratio([Bounded.above(1400)] * 3, ours, 1400)
    assert few == Estimate(1400 / 228, 0, math.inf)
    assert few.shown() == "6.1"


@pytest.mark.parametrize("n_early", [3, 4])
def test_a_side_of_which_one_run_is_known_leaves_all_room(n_early):
    """Runs that ended before the budget are no copies of the one that did not."""
    ours = [Bounded.exactly(value) for value in (180, 200, 220, 260, 280)]
    theirs = [Bounded.exactly(250)] * (5 - n_early) + [Bounded.above(100 + number) for number in range(n_early)]
    found = restricted_ratio(theirs, ours, 240)
    assert (found.low == 0 and math.isinf(found.high)) is (n_early == 4)


@given(st.lists(exact | censored, min_size=1, max_size=12))
def test_a_band_holds_its_median(runs):
    middle, band = median_time(runs), median_band(runs)
    assert band.low <= middle.low or not middle.exact
    assert band.high >= middle.low


@pytest.mark.parametrize("n_runs", [5, 6, 7, 8, 10, 20, 50, 200])
def test_without_censoring_a_band_is_one_of_order_statistics(n_runs):
    """So what it covers is known exactly, of whatever distribution."""
    band = median_band([Bounded.exactly(place) for place in range(1, n_runs + 1)])
    covers = stats.binom.cdf(band.high - 1, n_runs, 0.5) - stats.binom.cdf(band.low - 1, n_runs, 0.5)
    assert 0.929 <= covers <= 0.985
    assert band.low + band.high == n_runs + 1


@given(st.lists(exact | censored, min_size=1, max_size=4))
def test_fewer_than_five_runs_have_no_interval(runs):
    assert median_band(runs) == Bounded.above(0)


@given(st.lists(exact | censored, min_size=5, max_size=12), st.integers(1, 12))
def test_runs_that_hardly_began_are_no_evidence(runs, n_more):
    whole, more = median_band(runs), median_band([*runs, *[Bounded.above(0)] * n_more])
    assert more == whole or not median_time(runs).exact  # a median that is a bound moves with what has begun


@given(st.lists(times, min_size=5, max_size=10, unique=True), st.data())
def test_a_band_of_runs_that_stop_earlier_is_not_narrower(values, data):
    runs = [Bounded.exactly(value) for value in values]
    cut = data.draw(st.integers(0, len(runs) - 1))
    early = [Bounded.above(time.low - 0.5) if place == cut else time for place, time in enumerate(runs)]
    assert median_band(early).high >= median_band(runs).high


def test_one_run_that_went_on_is_no_certainty():
    """Nine stopped at 50, the tenth got there at 100: half of all may take for ever."""
    assert median_band([*[Bounded.above(50)] * 9, Bounded.exactly(100)]) == Bounded.above(50)


def test_five_runs_on_their_way_rule_out_an_earlier_median():
    assert median_band([Bounded.above(1000)] * 4) == Bounded.above(0)
    assert median_band([Bounded.above(500), *[Bounded.above(1000)] * 5]) == Bounded.above(1000)


def test_a_share_leaves_open_what_was_not_seen():
    runs = [Bounded.exactly(300), Bounded.exactly(1200), Bounded.above(100), Bounded.above(1000)]
    found, whole = share_within(runs, 1000), share_within([*runs[:2], *[Bounded.above(1000)] * 2], 1000)
    assert found.value == whole.value == 0.25
    assert found.low == whole.low
    assert found.high > whole.high


def test_p_of_few_runs_is_never_small():
    early, late = ([Bounded.exactly(base + step) for step in range(5)] for base in (100, 900))
    assert logrank_p(early, late) == pytest.approx(2 / 252)
    assert paired_p([*zip(early, late, strict=True)], [1000] * 5) == pytest.approx(2 / 2**5)
    assert paired_p([*zip(early[:2], late[:2], strict=True)], [1000] * 2) is None
    assert paired_p([*zip(early, [Bounded.above(500)] * 5, strict=True)], [500] * 5) == pytest.approx(2 / 2**5)
    assert paired_p([*zip(late, [Bounded.above(500)] * 5, strict=True)], [500] * 5) is None  # nobody got there by then


def test_runs_of_one_side_that_stop_early_do_not_make_it_better():
    """Where pairs were left out whose shorter run did not get there, a third of null comparisons were rejected."""
    random, n_times, rejected = np.random.default_rng(0), 200, 0
    for _ in range(n_times):
        theirs, ours = (1000 * random.weibull(1.5, 20) for _ in range(2))
        ends = np.where(random.random(20) < 0.8, 1000.0, 2000.0)
        pairs = zip(seen(theirs, np.full(20, 2000.0)), seen(ours, ends), strict=True)
        rejected += paired_p([*pairs], [*ends]) < 0.05
    assert rejected / n_times <= 0.06 + 0.04


def seen(values, ends):
    return [Bounded.exactly(v) if v <= end else Bounded.above(end) for v, end in zip(values, ends, strict=True)]


def draw(random, n, budget):
    return seen(200 + 800 * random.exponential(size=n), np.full(n, budget))


def test_intervals_cover_and_null_comparisons_do_not_reject():
    """A small part of benchmarks/intervals.py; three standard errors of slack."""
    random, budget, n_times = np.random.default_rng(0), 1200.0, 200
    hits, rejected = {"ratio": 0, "median": 0}, {"log-rank": 0, "paired": 0}
    for _ in range(n_times):
        theirs, ours = draw(random, 6, budget), draw(random, 6, budget)
        ratio, band = restricted_ratio(theirs, ours, budget), median_band(ours)
        hits["ratio"] += ratio.low <= 1 <= ratio.high
        hits["median"] += band.low <= 200 + 800 * math.log(2) <= band.high
        rejected["log-rank"] += logrank_p(theirs, ours) < 0.05
        rejected["paired"] += paired_p([*zip(theirs, ours, strict=True)], [budget] * 6) < 0.05
    assert all(0.93 - 0.045 <= count / n_times <= 0.97 + 0.03 for count in hits.values()), hits
    assert all(count / n_times <= 0.06 + 0.04 for count in rejected.values()), rejected
