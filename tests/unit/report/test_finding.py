"""The finding in sentences."""

import pytest

from run_directories import DEMO, MadeRun, make_runs
from unplateau.analysis.compare import by_strategy, compare_summaries
from unplateau.analysis.runs import summarise_run
from unplateau.analysis.survival import Bounded
from unplateau.report.finding import finding, ratio_words


def said(folder, made):
    runs = [summarise_run(record) for record in make_runs(folder, made)]
    comparison = compare_summaries(runs) if any(run.strategy == "plain" for run in runs) else None
    return " ".join(finding(by_strategy(runs), comparison))


def test_says_who_was_stuck_and_who_was_not(tmp_path):
    text = said(tmp_path, DEMO)
    assert text.startswith("Plain training had not escaped its plateau by step 2,000 in either of 2 seeds.")
    assert "With mixed it escaped at step" in text
    assert "at least 2." in text
    assert "times fewer steps" in text
    assert "weights score of block 3 (cut self) stood at" in text
    assert text.endswith("(Steps are medians over 2 seeds.)")


def test_one_seed_one_strategy(tmp_path):
    text = said(tmp_path, [MadeRun("mixed", 3, 600)])
    assert text.startswith("With mixed, training escaped at step")
    assert "median" not in text


def test_mixed_censoring_is_told_apart(tmp_path):
    text = said(tmp_path, [MadeRun(seed=0, falls=700), MadeRun(seed=1, falls=900), MadeRun(seed=2)])
    assert "escaped in 2 of 3 seeds, at steps" in text
    assert "completed in 2 of 3 seeds" in text
    both = said(
        tmp_path / "both", [MadeRun(), *(MadeRun("mixed", seed, falls) for seed, falls in ((0, 700), (1, None)))]
    )
    assert "completed in 1 of 2 seeds, at step" in both
    assert not any(marks in text + both for marks in (",.", ",:"))


def test_escaped_but_not_completed(tmp_path):
    assert "but had not completed by step 520" in said(tmp_path, [MadeRun(falls=450, steps=520)])


def test_a_slower_strategy_is_called_slower(tmp_path):
    text = said(tmp_path, [MadeRun(falls=400), MadeRun("mixed", falls=1600)])
    assert "times as many steps" in text
    assert "fewer" not in text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Bounded.exactly(3.14), "3.1 times fewer steps"),
        (Bounded.above(3.19), "at least 3.1 times fewer steps"),
        (Bounded.exactly(0.5), "2.0 times as many steps"),
        (Bounded(0, 0.5), "at least 2.0 times as many steps"),
        (Bounded(0, 3.0), None),
        (Bounded.above(0.8), None),
        (None, None),
    ],
)
def test_claims_no_more_than_is_known(ratio, text):
    assert ratio_words(ratio, "steps") == text
