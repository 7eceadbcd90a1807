"""The opening of the report: a sentence and three numbers that claim no more than was seen."""

import pytest

from run_directories import DEMO, MadeRun, make_run, make_runs
from unplateau import store
from unplateau.analysis.compare import by_strategy, compare_summaries
from unplateau.analysis.runs import summarise_run
from unplateau.analysis.survival import Bounded
from unplateau.report.facts import brief_table
from unplateau.report.finding import numbers, saving_number, sentence


def opening(records):
    runs = [summarise_run(record) for record in records]
    groups = by_strategy(runs)
    comparison = compare_summaries(runs) if "plain" in groups else None
    return sentence(groups), numbers(groups, comparison), brief_table(groups, comparison)


CASES = {
    "plain stuck": (
        DEMO,
        "Plain training had not escaped its plateau by step 2,000 in either of 2 seeds; with component-loss, the first "
        "of 3 other strategies, training escaped at step 470 (median of 2 seeds).",
        ["at least 3.9\N{MULTIPLICATION SIGN}", "step 470", "0.80"],
    ),
    "plain escaped later": (
        [MadeRun(falls=1600), MadeRun("mixed", falls=400)],
        "Plain training escaped at step 1,610; with mixed, training escaped at step 410.",
        ["3.9\N{MULTIPLICATION SIGN}", "step 410", "0.78"],
    ),
    "plain is best": (
        [MadeRun(falls=400), MadeRun("mixed", falls=1600)],
        "Plain training escaped at step 410; with mixed, training escaped at step 1,610.",
        ["3.9\N{MULTIPLICATION SIGN}", "step 1,610", "0.78"],
    ),
    "only plain escaped": (
        [MadeRun(falls=400), MadeRun("mixed"), MadeRun("warm-up", steps=900)],
        "Plain training escaped at step 410; none of 2 runs with 2 other strategies had by the last step (900 to "
        "2,000).",
        ["1.02 TFLOP", "step 410", "0.78"],
    ),
    "only plain escaped, one other": (
        [MadeRun(falls=400), MadeRun("mixed")],
        "Plain training escaped at step 410; with mixed, training had not escaped its plateau by step 2,000.",
        ["1.02 TFLOP", "step 410", "0.78"],
    ),
    "nothing escaped": (
        [MadeRun(), MadeRun("mixed")],
        "Neither of 2 runs with 2 strategies had escaped its plateau by step 2,000.",
        ["5.00 TFLOP", "step > 2,000", "0.24"],
    ),
    "one stuck run": (
        [MadeRun()],
        "Plain training had not escaped its plateau by step 2,000.",
        ["5.00 TFLOP", "step > 2,000", "0.24"],
    ),
    "no plain training": (
        [MadeRun("mixed", 3, 600)],
        "With mixed, training escaped at step 610.",
        ["1.52 TFLOP", "step 610", "0.81"],
    ),
    "several without plain": (
        [MadeRun("mixed", 3, 600), MadeRun("x", 3, 900), MadeRun("y", 3)],
        "With mixed, the first of 3 strategies, training escaped at step 610.",
        ["1.52 TFLOP", "step 610", "0.81"],
    ),
    "mixed censoring": (
        [MadeRun(seed=0, falls=700), MadeRun(seed=1, falls=900), MadeRun(seed=2)],
        "Plain training escaped in 2 of 3 seeds, at steps 710 to 910.",
        ["5.00 TFLOP", "step 910", "0.78"],
    ),
    "unfinished": (
        [MadeRun(steps=250, finished=False), MadeRun("mixed", falls=400, finished=False)],
        "Plain training had not escaped its plateau by step 250; with mixed, training escaped at step 410.",
        ["1.02 TFLOP", "step 410", "0.79"],
    ),
    "no scores": (
        [MadeRun(falls=900, probes=False), MadeRun("mixed", falls=600, probes=False)],
        "Plain training escaped at step 910; with mixed, training escaped at step 610.",
        ["1.5\N{MULTIPLICATION SIGN}", "step 610", "0.78"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_and_the_numbers_say_what_was_seen(tmp_path, case):
    made, said, shown = CASES[case]
    text, found, table = opening(make_runs(tmp_path, made))
    assert text == said
    assert [number for number, _ in found] == shown
    assert [name.rstrip("*") for name, _ in table.rows] == [*dict.fromkeys(name.rstrip("*") for name, _ in table.rows)]
    assert all(len(cells) == len(table.columns) for _, cells in table.rows)


def test_the_numbers_say_what_they_are(tmp_path):
    _, found, table = opening(make_runs(tmp_path, DEMO))
    assert [words for _, words in found] == [
        "fewer FLOPs to escape with component-loss than with plain training",
        "of the escape with component-loss; with plain training: > 2,000",
        "final accuracy with component-loss; Bayes-optimal: 0.81",
    ]
    assert table.columns == ("escape", "completion", "times fewer FLOPs", "final accuracy")
    assert [name for name, _ in table.rows] == ["plain", "component-loss", "mixed", "warm-up"]
    assert [(cell.text, cell.note) for cell in table.rows[1][1][:2]] == [("470", "2 of 2"), ("580", "2 of 2")]


def test_first_is_said_only_where_nobody_may_have_been_as_early(tmp_path):
    stopped_early = [MadeRun("mixed", falls=600), MadeRun("x", steps=300, finished=False)]
    assert opening(make_runs(tmp_path, stopped_early))[0] == "With mixed, training escaped at step 610."


def test_a_strategy_that_escaped_leads_before_one_that_stopped_early(tmp_path):
    made = [MadeRun(), MadeRun("x", steps=300), MadeRun("mixed", 0), MadeRun("mixed", 1, 700), MadeRun("mixed", 2)]
    text, found, _ = opening(make_runs(tmp_path, made))
    assert text.endswith("; with mixed, training escaped in 1 of 3 seeds, at step 710.")
    assert found[1][0] == "step > 2,000"


def test_unfinished_runs_are_marked_and_not_called_final(tmp_path):
    _, found, table = opening(make_runs(tmp_path, [MadeRun(falls=400, finished=False)]))
    assert found[2][1] == "accuracy so far with plain training; Bayes-optimal: 0.81"
    assert [name for name, _ in table.rows] == ["plain*"]
    assert table.caption.endswith("*: with unfinished runs.")


def test_numbers_that_are_not_known_are_left_out(tmp_path):
    record = make_run(tmp_path, MadeRun(finished=False))
    (record.path / store.METRICS).write_text("")
    text, found, _ = opening([store.load_run(record.path)])
    assert text == "Plain training had not escaped its plateau by step 0."
    assert [number for number, _ in found] == ["step > 0"]


@pytest.mark.parametrize(
    ("ratio", "number", "words"),
    [
        (Bounded.exactly(3.14), "3.1\N{MULTIPLICATION SIGN}", "fewer"),
        (Bounded.above(3.19), "at least 3.1\N{MULTIPLICATION SIGN}", "fewer"),
        (Bounded(2.0, 3.0), "2.0 to 3.0\N{MULTIPLICATION SIGN}", "fewer"),
        (Bounded.exactly(1.0), "1.0\N{MULTIPLICATION SIGN}", "as many"),
        (Bounded.exactly(1.04), "1.0\N{MULTIPLICATION SIGN}", "as many"),
        (Bounded.exactly(0.5), "2.0\N{MULTIPLICATION SIGN}", "as many"),
        (Bounded(0, 0.5), "at least 2.0\N{MULTIPLICATION SIGN}", "as many"),
    ],
)
def test_a_saving_is_rounded_away_from_the_claim(ratio, number, words):
    assert saving_number(ratio, "mixed")[0] == number
    assert saving_number(ratio, "mixed")[1].startswith(words)


@pytest.mark.parametrize("ratio", [Bounded(0, 3.0), Bounded.above(0.8), None])
def test_no_saving_where_it_is_open_who_needs_more(ratio):
    assert saving_number(ratio, "mixed") is None
