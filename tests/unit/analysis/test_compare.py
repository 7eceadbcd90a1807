"""Strategies against a baseline."""

import json
import shutil

import pytest

from run_directories import DEMO, MadeRun, make_run, make_runs
from unplateau import store
from unplateau.analysis.compare import compare
from unplateau.analysis.savings import MEASURES, SHOWN
from unplateau.errors import SpecError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("demo"), DEMO)


def runs(folder, **falls):
    """Two or more seeds of each strategy, falling at these steps (None: never)."""
    made = [
        MadeRun(name.replace("_", "-"), seed, step) for name, steps in falls.items() for seed, step in enumerate(steps)
    ]
    return make_runs(folder, made)


def test_baseline_first_then_by_escape(demo):
    names = [one.strategy for one in compare(demo).strategies]
    assert names == ["plain", "component-loss", "mixed", "warm-up"]


def test_a_baseline_that_never_escapes_gives_lower_bounds(demo):
    comparison = compare(demo)
    mixed = comparison["mixed"]
    assert comparison["plain"].n_reached("escape") == 0
    assert comparison["plain"].times["escape"].shown() == "> 2,000"
    for event in ("escape", "completion"):
        ratios = [2000 / run.reached(event) for run in mixed.runs]
        saving = mixed.savings[event]["steps"]
        assert saving.ratio.low == pytest.approx(sum(ratios) / 2)
        assert saving.ratio.shown(1).startswith("> ")
        assert saving.spread.low == pytest.approx(min(ratios))


def test_a_strategy_that_never_escapes_gives_upper_bounds(tmp_path):
    stuck = compare(runs(tmp_path, plain=(500, 520), mixed=(None, None)))["mixed"]
    assert stuck.savings["escape"]["steps"].ratio.shown(1).startswith("< 0.")
    assert stuck.savings["completion"]["joules"].ratio.low == 0


def test_nothing_is_claimed_if_both_are_stuck(tmp_path):
    both = compare(runs(tmp_path, plain=(None, None), mixed=(None, None)))["mixed"]
    assert all(saving.ratio is None for savings in both.savings.values() for saving in savings.values())


def test_ratios_are_paired_by_seed(tmp_path):
    """Each seed is twice as fast, though the seeds differ tenfold."""
    saving = compare(runs(tmp_path, plain=(300, 1600), mixed=(150, 800)))["mixed"].savings["escape"]["steps"]
    assert saving.pairs == 2
    assert saving.ratio.exact
    assert saving.spread.low == pytest.approx(2, abs=0.3)
    assert saving.spread.high == pytest.approx(2, abs=0.3)


def test_without_a_seed_in_common_the_medians_are_compared(tmp_path):
    make_runs(tmp_path, [MadeRun("plain", 0, 1200), MadeRun("mixed", 7, 600)])
    saving = compare(tmp_path)["mixed"].savings["escape"]["steps"]
    assert saving.pairs == 0
    assert saving.ratio.low == pytest.approx(2, abs=0.1)


def test_more_flops_a_step_save_less_flops_than_steps(demo):
    savings = compare(demo)["component-loss"].savings["escape"]
    assert savings["train_flops"].ratio.low < savings["steps"].ratio.low


def test_unknown_energy_is_unknown_and_not_nothing(tmp_path):
    make_runs(tmp_path, [MadeRun("plain", falls=900, joules=False), MadeRun("mixed", falls=300)])
    saving = compare(tmp_path)["mixed"].savings["escape"]
    assert saving["joules"].ratio is None
    assert saving["seconds"].ratio is not None


def test_p_from_three_runs_a_side(tmp_path, demo):
    assert compare(demo)["mixed"].p("escape") is None
    three = compare(runs(tmp_path, plain=(None, None, None), mixed=(300, 320, 340)))["mixed"]
    assert three.p("escape") == pytest.approx(2 / 20)  # of 20 ways to deal six runs to two sides, two are as extreme


def test_prompts_and_tokens_are_compared_as_steps_are(demo):
    savings = compare(demo)["mixed"].savings["escape"]
    assert savings["rows"].ratio == savings["tokens"].ratio == savings["steps"].ratio


def test_strategies_share_a_budget_and_means_are_restricted_to_it(tmp_path):
    """Plain runs are longer: what they did after the others' last step does not count."""
    made = [MadeRun("plain", seed, 1500) for seed in range(3)]
    made += [MadeRun("mixed", seed, 400 + 50 * seed, steps=1000) for seed in range(2)]
    made += [MadeRun("mixed", 2, None, steps=1000)]
    comparison = compare(make_runs(tmp_path, made))
    plain, mixed = (comparison[name].costs["escape"]["steps"] for name in ("plain", "mixed"))
    assert plain.budget == mixed.budget == 1000
    assert (plain.share.value, plain.restricted_mean) == (0, 1000)
    assert mixed.share.value == pytest.approx(2 / 3)
    there = [run.escape_step for run in comparison["mixed"].runs if run.escape_step]
    assert mixed.restricted_mean == pytest.approx((sum(there) + 1000) / 3)
    saving = comparison["mixed"].savings["escape"]["steps"]
    assert saving.restricted.value == pytest.approx(1000 / mixed.restricted_mean)
    assert saving.restricted.low < saving.restricted.value < saving.restricted.high


def test_a_run_that_has_hardly_begun_takes_nothing_from_the_others(tmp_path):
    """In a sweep that is running: shares end where all are known, ratios and p where the two are that they compare."""
    made = [MadeRun("plain", seed, 900 + 40 * seed) for seed in range(5)]
    made += [MadeRun("mixed", seed, 400 + 50 * seed) for seed in range(5)]
    before = compare(make_runs(tmp_path, made))
    after = compare(make_runs(tmp_path / "more", [*made, MadeRun("weights-loss", 0, None, steps=20, finished=False)]))
    for measure, saving in before["mixed"].savings["escape"].items():
        assert after["mixed"].savings["escape"][measure].as_dict() == saving.as_dict()
    assert after["mixed"].costs["escape"]["steps"].budget == 20
    assert "known for: mixed 2,000, weights-loss 20" in str(after)
    assert "known for" not in str(before)
    rates = [
        MadeRun(name, 0, 300, steps=steps, settings={"train.lr": rate})
        for rate, steps in ((0.001, 1000), (0.002, 2000))
        for name in ("plain", "mixed")
    ]
    assert "known for" not in str(compare(make_runs(tmp_path / "rates", rates)))  # each rate has a table of its own


def test_few_runs_have_no_interval_and_that_is_said(tmp_path):
    few, enough = (
        str(compare(make_runs(tmp_path / str(n), [MadeRun("plain", seed, 900 + 40 * seed) for seed in range(n)])))
        for n in (4, 5)
    )
    assert "no interval of a median below 5 runs, nor of steps x below 4 a side" in few
    assert "no interval" not in enough
    assert [" to " in text.split("joules")[1].splitlines()[2] for text in (few, enough)] == [False, True]


def test_no_ratio_where_nobody_got_there(tmp_path):
    both = compare(runs(tmp_path, plain=(None, None, None), mixed=(None, None, None)))["mixed"]
    assert all(saving.restricted is None for savings in both.savings.values() for saving in savings.values())
    assert both.p("escape") is None


@pytest.mark.parametrize("falls_back_to", [0.0, 0.15])
def test_an_escape_that_is_lost_is_counted(tmp_path, falls_back_to):
    """Also where it ends below the line by less than what counts as thrown back on the way."""
    (record,) = make_runs(tmp_path, [MadeRun("plain", 0, falls=300, steps=1000)])
    path = record.path / store.METRICS
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["progress"] = falls_back_to if row["step"] > 800 else row["progress"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_runs(tmp_path, [MadeRun("mixed", 0, falls=200, steps=1000)])
    comparison = compare(tmp_path)
    assert comparison["plain"].n_reached("escape") == 0
    assert comparison["plain"].n_lost("escape") == 1
    assert comparison["mixed"].n_lost("escape") == 0
    assert "0 of 1, 1 lost" in str(comparison)
    assert comparison.as_dict()["strategies"][0]["escape"]["lost"] == 1


def test_the_same_run_against_itself_saves_nothing(tmp_path):
    record = make_run(tmp_path / "a", MadeRun("plain", falls=500))
    other = make_run(tmp_path / "b", MadeRun("other", falls=500))
    saving = compare([record, other])["other"].savings["escape"]["steps"]
    assert saving.ratio.low == saving.ratio.high == 1


def test_prints_a_table(tmp_path, demo):
    text = str(compare(demo))
    assert all(
        one in text
        for one in ("component-loss", "0 of 2", "> 2,000", "estimate: CPU time", *(MEASURES[name] for name in SHOWN))
    )
    assert max(map(len, text.splitlines())) <= 110
    assert "unfinished" not in text
    make_runs(tmp_path, [MadeRun(), MadeRun("mixed", falls=900, steps=300, finished=False)])
    assert "mixed*" in str(compare(tmp_path))


def test_is_plain_json(demo):
    entry = json.loads(json.dumps(compare(demo).as_dict(), allow_nan=False))
    assert entry["baseline"] == "plain"
    mixed = next(one for one in entry["strategies"] if one["strategy"] == "mixed")
    assert mixed["escape"]["reached"] == 2
    assert mixed["escape"]["savings"]["steps"]["ratio"]["high"] is None


def test_an_unknown_baseline_is_refused_with_a_suggestion(demo):
    with pytest.raises(SpecError, match="did you mean 'mixed'"):
        compare(demo, baseline="mixd")
    with pytest.raises(SpecError, match="no runs of strategy"):
        compare(demo)["nothing"]


def swept(folder, key, falls, strategies=("plain",), **others):
    """Runs of every strategy under every value of a setting, two seeds each, that fall at these steps."""
    made = [
        MadeRun(name, seed, falls[value] / (1 + number) + 20 * seed, probes=False, settings={key: value, **others})
        for value in falls
        for number, name in enumerate(strategies)
        for seed in range(2)
    ]
    return make_runs(folder, made)


def test_a_sweep_over_a_setting_is_compared_with_its_lowest_value(tmp_path):
    comparison = compare(swept(tmp_path, "train.lr", {0.01: 400, 0.002: 800, 0.1: 1600}))
    assert [one.name for one in comparison.strategies] == ["plain, lr=0.002", "plain, lr=0.01", "plain, lr=0.1"]
    assert {one.against for one in comparison.strategies} == {"plain, lr=0.002"}
    assert comparison.baseline == "lr=0.002"
    saving = comparison["plain, lr=0.01"].savings["escape"]["steps"]
    assert saving.pairs == 2
    assert saving.ratio.low == pytest.approx(2, abs=0.2)
    assert comparison["plain, lr=0.1"].savings["escape"]["steps"].ratio.high < 1
    head, _, first, *_ = str(comparison).splitlines()
    assert head.split()[:3] == ["escape", "lr", "reached"]
    assert first.split()[:3] == ["plain", "0.002", "2"]
    assert "x: cost of lr=0.002 / cost of the row" in str(comparison)
    data = comparison["plain, lr=0.01"].as_dict()
    assert (data["strategy"], data["settings"], data["against"]) == ("plain", {"train.lr": "0.01"}, "plain, lr=0.002")


def test_strategies_under_several_settings_are_compared_under_the_same(tmp_path):
    runs = swept(tmp_path, "model.n_heads", {2: 800, 4: 1600}, ("plain", "mixed"))
    comparison = compare(runs)
    assert comparison.baseline == "plain with the same n_heads"
    assert [(one.name, one.against) for one in comparison.strategies] == [
        ("plain, n_heads=2", "plain, n_heads=2"),
        ("mixed, n_heads=2", "plain, n_heads=2"),
        ("plain, n_heads=4", "plain, n_heads=4"),
        ("mixed, n_heads=4", "plain, n_heads=4"),
    ]
    for heads in (2, 4):
        assert comparison[f"mixed, n_heads={heads}"].savings["escape"]["steps"].ratio.low == pytest.approx(2, abs=0.2)
    budgets = {one.name: one.costs["escape"]["steps"].budget for one in comparison.strategies}
    assert set(budgets.values()) == {2000}
    other = compare(runs, "n_heads=2")
    assert other.baseline == "n_heads=2 with the same strategy"
    assert other["mixed, n_heads=4"].against == "mixed, n_heads=2"
    one = compare(runs, "plain, model.n_heads=2")
    assert {row.against for row in one.strategies} == {"plain, n_heads=2"}
    with pytest.raises(SpecError, match="no run of strategy 'n_heads=3'; did you mean 'n_heads="):
        compare(runs, "n_heads=3")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"recipe": "other"}, ("plain, recipe=demo", "mixed, recipe=other")),
        ({"cut": "zero"}, ("plain, cut=self", "mixed, cut=zero")),
        ({"settings": {"task.n_mappings": 64}}, ("plain, n_mappings=null", "mixed, n_mappings=64")),
        ({"settings": {"task.source": {"kind": "Digits"}}}, ("plain, source=Shapes3D", "mixed, source=Digits")),
    ],
)
def test_what_cannot_be_compared_is_shown(tmp_path, change, names):
    make_runs(tmp_path, [MadeRun(falls=900, probes=False), MadeRun("mixed", falls=500, probes=False, **change)])
    comparison = compare(tmp_path)
    assert {one.name: one.against for one in comparison.strategies} == {names[0]: names[0], names[1]: None}
    assert not comparison[names[1]].savings
    assert "no x: nothing to compare with" in str(comparison)
    json.dumps(comparison.as_dict(), allow_nan=False)


def test_other_tasks_are_compared_where_it_is_asked_for(tmp_path):
    runs = swept(tmp_path, "task.n_mappings", {1: 400, 64: 800})
    assert [one.against for one in compare(runs).strategies] == ["plain, n_mappings=1", "plain, n_mappings=64"]
    asked = compare(runs, "n_mappings=1")
    assert asked["plain, n_mappings=64"].savings["escape"]["steps"].ratio.shown(1) == "0.5"


def test_runs_of_one_seed_and_several_lengths_or_cadences(tmp_path):
    """Only where nothing else tells them apart do these count."""
    make_runs(tmp_path, [MadeRun(falls=300, steps=steps, probes=False) for steps in (1000, 2000)])
    assert [one.name for one in compare(tmp_path).strategies] == ["plain, steps=1000", "plain, steps=2000"]
    apart = make_runs(tmp_path / "b", [MadeRun("mixed", seed, falls=300, steps=1000 * seed) for seed in (1, 2)])
    assert [one.name for one in compare(apart, "mixed").strategies] == ["mixed"]


def test_two_runs_of_one_strategy_and_seed_are_refused(tmp_path):
    record = make_run(tmp_path / "a", MadeRun(steps=300))
    shutil.copytree(record.path, tmp_path / "b")
    with pytest.raises(SpecError, match="two runs with seed 0"):
        compare(tmp_path)
