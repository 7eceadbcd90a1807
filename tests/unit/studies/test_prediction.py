"""How much of a plateau is left, predicted on rows whose order is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from study_rows import row
from unplateau.studies import STUDIES
from unplateau.studies.base import Row, Score
from unplateau.studies.prediction import PREDICTORS, order_of

STUDY = STUDIES["prediction"]
ESCAPES = (300, 500, None, 800, None)


def rows(values: Sequence[float], setting: str = "shapes, shallow, scaled", at: int = 200) -> list[Row]:
    """Runs that escape at these steps or never, with these few-shot scores."""
    known = zip(ESCAPES, values, strict=True)
    return [
        row(setting, "plain", seed, escape=escape, at=at, then=0.0, few_shot=Score(value, 0.25))
        for seed, (escape, value) in enumerate(known)
    ]


@pytest.mark.parametrize(
    ("values", "right"),
    [((0.9, 0.8, 0.3, 0.7, 0.4), 9.0), ((0.1, 0.2, 0.8, 0.3, 0.8), 0.0), ((0.5, 0.5, 0.5, 0.5, 0.5), 4.5)],
)
def test_pairs_whose_order_is_known_are_counted(values: Sequence[float], right: float) -> None:
    """Three that escape, each before the two that never do: of ten pairs one has no order."""
    found = order_of(rows(values), PREDICTORS["few-shot score"])
    assert (found.right, found.pairs) == (right, 9)
    assert order_of(rows(values), PREDICTORS["look score"]).pairs == 0
    assert order_of(rows(values), PREDICTORS["weakest of the three"]).right == right


def test_a_run_that_escapes_at_the_last_step_comes_before_one_that_has_not_by_then() -> None:
    first = row("shapes, shallow, scaled", "plain", 0, escape=1000, at=200, few_shot=Score(0.9, 0.25))
    never = row("shapes, shallow, scaled", "plain", 1, at=200, few_shot=Score(0.3, 0.25))
    also = replace(first, seed=2)
    for pair in ([first, never], [never, first]):
        found = order_of(pair, PREDICTORS["few-shot score"])
        assert (found.right, found.pairs) == (1.0, 1)
    assert order_of([first, also], PREDICTORS["few-shot score"]).pairs == 0
    certain = replace(first, few_shot=Score(1.0, 1.0))
    assert order_of([certain, never], PREDICTORS["few-shot score"]).pairs == 0


def test_runs_of_other_settings_and_steps_are_not_compared() -> None:
    good = rows((0.9, 0.8, 0.3, 0.7, 0.4))
    tables = STUDY.judge([*good, *rows((0.1,) * 5, at=300), *rows((0.9, 0.8, 0.3, 0.7, 0.4), "recall, deep, gpt2")])
    line = next(line for line in tables[0].lines if line[0] == "few-shot score")
    assert line[1:] == ["0.88 (0.00 to 1.00)", "2", "27"]  # 1 of recall; 9 of 9 and, all alike, 4.5 of 9 of shapes
    assert tables[2].lines == tables[0].lines
    published = {cells[0]: cells[1:] for cells in tables[3].lines}
    assert published["shapes, shallow, scaled"] == ["12,788", "800"]
    assert next(line for line in tables[0].lines if line[0] == "look score")[1] == "-"


def test_an_account_is_refuted_by_a_better_score_and_by_chance() -> None:
    """Over two tasks alike: few-shot score and those of it order all pairs, the curve and the look score none."""
    right, wrong = (0.9, 0.8, 0.3, 0.7, 0.4), (0.1, 0.2, 0.8, 0.3, 0.8)
    found = [
        replace(one, look=Score(value, 0.25), then=-value)
        for task in ("shapes", "recall")
        for one, value in zip(rows(right, f"{task}, shallow, scaled"), wrong, strict=True)
    ]
    verdicts = {line[0]: line[2:] for line in STUDY.judge(found)[1].lines}
    assert verdicts["attention pattern first"][1] == "REFUTED"
    assert "few-shot score" in verdicts["attention pattern first"][0]
    assert verdicts["the curve is enough"] == ["-", "not refuted"]
    assert verdicts["representation first"] == ["-", "undecided"]  # no weights score


def test_it_takes_the_runs_of_the_crossing_and_one_long_run() -> None:
    assert STUDY.folder == "crossing"
    assert STUDY.plan([100], only=["parity"]) == STUDIES["crossing"].plan([100], only=["parity"])
    *same, long = STUDY.plan([100, 101], only=["shapes", "parity"])
    assert same == STUDIES["crossing"].plan([100, 101], only=["shapes", "parity"])
    assert (long.setting, long.cell) == ("shapes, 20,000 steps", "plain")
    assert (long.spec.train.steps, long.spec.seed) == (20_000, 100)
