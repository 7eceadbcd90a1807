"""Figures of runs and the content of summary.json."""

import json

import pytest

from run_directories import DEMO, MadeRun, make_run, make_runs
from unplateau.analysis.compare import summarise
from unplateau.analysis.runs import summaries, summarise_run
from unplateau.errors import RunDirectoryError, SpecError
from unplateau.store import COSTS, METRICS, TASK, load_run

PROMISED = {
    *("strategy", "seed", "steps", "escape_step", "completion_step", "final_progress", "final_accuracy"),
    *("weights_score", "plateaus", "train_flops", "seconds", "joules", "energy_method"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("demo"), DEMO)


def test_has_what_people_script_against(demo):
    summary = json.loads(json.dumps(summarise(demo).as_dict(), allow_nan=False))
    assert {*summary} == {"runs", "comparisons", "left_out"}
    assert len(summary["runs"]) == len(DEMO)
    assert all(set(run) >= PROMISED for run in summary["runs"])
    assert all(
        {*plateau} == {"start", "end", "level", "ended", "interval", "kind"}
        for run in summary["runs"]
        for plateau in run["plateaus"]
    )


def test_escape_and_completion_are_where_the_curve_falls(demo):
    for run, made in zip(map(summarise_run, demo), DEMO, strict=True):
        assert run.steps == made.steps
        if made.falls is None:
            assert run.escape_step is None
            assert run.completion_step is None
        else:
            assert run.escape_step == pytest.approx(made.falls, abs=made.width)
            assert made.falls < run.completion_step < made.falls + 2.5 * made.width


def test_costs_to_an_event_are_those_of_its_step(demo):
    run = summarise_run(demo[-1])
    assert run.costs_to["escape"].train_flops == pytest.approx(run.escape_step * DEMO[-1].flops_per_step)
    assert run.costs_to["escape"].rows == 64 * run.escape_step
    assert run.costs_to["escape"].seconds < run.costs_to["completion"].seconds < run.costs.seconds


def test_scores_on_the_plateau_are_older_than_the_escape(demo):
    run = summarise_run(demo[-1])
    steps, scores = run.record.history.column("weights_score")
    last = max(step for step in steps if step < run.escape_step)
    assert list(run.plateau_weights_score) == scores[steps.index(last)]
    stuck = summarise_run(demo[0])
    assert stuck.plateau_weights_score == stuck.weights_score


def test_a_plateau_that_the_run_ended_on_has_not_ended(demo):
    assert [plateau.ended for plateau in summarise_run(demo[0]).plateaus] == [False]
    assert [plateau.ended for plateau in summarise_run(demo[-1]).plateaus] == [True]


def test_progress_read_from_accuracy(tmp_path):
    run = summarise_run(make_run(tmp_path, MadeRun(falls=700, progress="accuracy")))
    assert run.plateaus[0].level == pytest.approx(0.25, abs=0.03)


def test_an_unfinished_run_is_censored_where_it_stopped(tmp_path):
    run = summarise_run(make_run(tmp_path, MadeRun(falls=1500, steps=300, finished=False)))
    assert not run.finished
    assert run.steps == 300
    assert run.escape_step is None
    assert run.final_on == "training"
    assert run.final_accuracy == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("held_out", "name"), [(True, "held-out"), (False, "test")])
def test_figures_on_items_that_training_shows_are_not_called_held_out(tmp_path, held_out, name):
    path = make_run(tmp_path, MadeRun(falls=500)).path
    task = json.loads((path / TASK).read_text())
    (path / TASK).write_text(json.dumps(task | {"holds_out_items": held_out}))
    assert summarise_run(load_run(path)).final_on == name


def test_a_run_without_probes_or_costs(tmp_path):
    record = make_run(tmp_path, MadeRun(falls=500, probes=False, joules=False))
    (record.path / COSTS).unlink()
    entry = summarise(record.path).as_dict()["runs"][0]
    assert entry["weights_score"] == []
    assert entry["joules"] is None
    assert entry["seconds"] is None


def test_a_run_without_a_single_row(tmp_path):
    record = make_run(tmp_path, MadeRun(finished=False))
    (record.path / METRICS).write_text("")
    entry = summarise(record.path).as_dict()["runs"][0]
    assert entry["steps"] == 0
    assert entry["final_progress"] is None
    assert entry["plateaus"] == []


def test_several_experiments_are_compared_apart(tmp_path):
    make_runs(tmp_path, [MadeRun(recipe=recipe, strategy=name) for recipe in ("a", "b") for name in ("plain", "mixed")])
    make_run(tmp_path, MadeRun(recipe="c", strategy="mixed"))
    summary = summarise(tmp_path)
    assert [run.recipe for run in summary.runs] == ["a", "a", "b", "b", "c"]
    assert [comparison.recipe for comparison in summary.comparisons] == ["a", "b"]


def test_runs_may_be_given_as_records_directories_or_folders_but_count_once(tmp_path):
    record = make_run(tmp_path, MadeRun())
    assert len(summaries([record, record.path, tmp_path])) == 1
    with pytest.raises(SpecError, match="no runs given"):
        summaries([])
    with pytest.raises(RunDirectoryError):
        summaries(tmp_path / "nowhere")
