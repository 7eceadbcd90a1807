"""Doses and responses on rows that were made up, and planned as they say."""

from __future__ import annotations

from collections.abc import Callable

from study_rows import row
from unplateau.items.amplified import Amplified
from unplateau.studies import STUDIES
from unplateau.studies.base import Row, Score

STUDY = STUDIES["amplify"]
CELLS = {"plain": 1.0, "x 2": 2.0, "x 4": 4.0, "x 8": 8.0, "x 16": 16.0}


def rows(escape: Callable[[float], int | None]) -> list[Row]:
    return [
        row(
            "shapes, alone", cell, seed, escape=escape(gain), few_shot=Score(0.5, 0.25), at=0 if cell == "x 16" else 100
        )
        for cell, gain in CELLS.items()
        for seed in range(3)
    ]


def trends(made: list[Row]) -> list[tuple[str, str]]:
    """Of doses and of controls: the correlation, and what became of the prediction."""
    return [(line[3].split(" ")[0], line[4]) for line in STUDY.judge(made)[1].lines]


def test_the_response_to_a_dose_is_a_rank_correlation() -> None:
    assert trends(rows(lambda gain: int(1000 / gain)))[0] == ("-1.00", "held")
    assert trends(rows(lambda gain: int(50 * gain)))[0] == ("1.00", "REFUTED")
    assert trends(rows(lambda gain: 300 if gain == 4 else 600))[0] == ("0.00", "REFUTED")
    assert trends(rows(lambda gain: 300 if gain in (4, 8) else 600))[0] == ("-0.29", "undecided")
    assert trends(rows(lambda gain: 400))[0] == ("all", "REFUTED")  # alike
    assert trends(rows(lambda gain: None))[0] == ("all", "undecided")


def test_a_model_that_was_looked_at_untrained_has_no_score() -> None:
    first, *_, last = STUDY.judge(rows(lambda gain: 100))[0].lines
    assert first == ["shapes, alone", "plain", "0.50", "100 (3/3)"]
    assert last == ["shapes, alone", "x 16", "-", "100 (3/3)"]


def test_a_control_that_comes_earlier_the_larger_it_is_refutes() -> None:
    for plain, late, verdict in ((500, 900, "held"), (500, 100, "REFUTED"), (None, None, "held")):
        control = [row("shapes, alone", "x 16, control", seed, escape=late) for seed in range(3)]
        assert trends([*rows(lambda gain, plain=plain: plain), *control])[1][1] == verdict


def test_doses_are_planned_with_their_controls() -> None:
    planned = STUDY.plan([100, 101], only=["random-codes"])
    assert len({one.spec.digest() for one in planned}) == len(planned) == 2 * 2 * 7
    for one in planned:
        source = one.spec.task.source  # type: ignore[attr-defined]
        assert isinstance(source, Amplified) is (one.cell != "plain")
        if isinstance(source, Amplified):
            assert source.factors_amplified == ("a", "b", "c")
            assert source.control is one.cell.endswith("control")
