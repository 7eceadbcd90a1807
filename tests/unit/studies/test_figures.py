"""The paper's figures judged on rows that were made to agree or not, and planned as they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from study_rows import row
from unplateau.studies import STUDIES
from unplateau.studies.base import Row, Score
from unplateau.studies.figures import FIGURES

BEST = Score(0.9, 0.25)


def verdicts(name: str, rows: Sequence[Row]) -> list[str]:
    return [line[-1] for line in STUDIES[name].judge(rows)[1].lines]


def made(
    escapes: Mapping[str, int | None], weights: Mapping[str, float] | None = None, setting: str = "demo"
) -> list[Row]:
    """Three seeds of each cell, alike but for a step or two."""
    return [
        row(
            setting,
            cell,
            seed,
            escape=None if escape is None else escape + seed,
            at=200,
            weights=Score((weights or {}).get(cell, 0.5) + seed / 1000, 0.2),
        )
        for cell, escape in escapes.items()
        for seed in range(3)
    ]


LONGER = {"1 mappings": 100, "4 mappings": 200, "32 mappings": 400, "1000 mappings": 800, "plain": None}
WORSE = {"1 mappings": 0.9, "4 mappings": 0.8, "32 mappings": 0.7, "1000 mappings": 0.6, "plain": 0.5}
BETTER = dict(zip(WORSE, reversed(WORSE.values()), strict=True))


def test_plateaus_that_grow_with_mappings_agree_and_those_that_shrink_do_not() -> None:
    assert verdicts("figure-3", made(LONGER, WORSE)) == ["agrees", "agrees"]
    assert verdicts("figure-3", made(LONGER, BETTER)) == ["agrees", "DISAGREES"]
    shrinking = dict(zip(LONGER, (900, 700, 500, 300, 100), strict=True))
    assert verdicts("figure-3", made(shrinking, WORSE)) == ["DISAGREES", "agrees"]
    assert verdicts("figure-4", made(LONGER, WORSE)) == ["agrees"]
    assert verdicts("figure-4", made(LONGER, BETTER)) == ["DISAGREES"]
    assert verdicts("figure-4", made({"plain": 500, "4 mappings": 500}, {})) == ["DISAGREES"]  # seeds alone say nothing


@pytest.mark.parametrize("name", ["figure-5a", "figure-5b", "figure-5c"])
def test_strategies_that_are_earlier_agree(name: str) -> None:
    assert verdicts(name, made({"plain": 800, "some way": 300, "another": 400})) == ["agrees"]
    assert verdicts(name, made({"plain": 800, "some way": 900, "another": None})) == ["DISAGREES"]
    both = made({"plain": 800, "some way": 300, "another": None})
    assert verdicts(name, both) == (["agrees"] if name == "figure-5a" else ["DISAGREES"])
    assert verdicts(name, made({"plain": None, "some way": None})) == ["undecided"]  # nobody got there
    assert verdicts(name, made({"plain": 800})) == verdicts(name, []) == ["undecided"]


def test_runs_that_never_escaped_count_as_longer_than_all_that_did_whatever_their_budget() -> None:
    made = [
        row("demo", cell, 0, escape=escape, steps=steps, weights=Score(value, 0.25))
        for cell, escape, steps, value in (
            ("1 mapping", 200, 1400, 0.9),
            ("4 mappings", 600, 1400, 0.8),
            ("32 mappings", 1400, 1400, 0.7),
            ("plain", None, 300, 0.3),
        )
    ]
    for name in ("figure-3", "figure-4"):
        verdict = STUDIES[name].judge(made)[1]
        assert [line[-1] for line in verdict.lines] == ["agrees"] * len(verdict.lines)


def test_weights_that_rise_first_agree() -> None:
    def looks(before: float) -> list[Row]:
        steps = [(20, 0.3), (200, before)]
        return [
            row("words", "plain", seed, escape=300, at=at, weights=Score(value, 0.25))
            for seed in range(3)
            for at, value in steps
        ]

    assert verdicts("figure-1b", looks(0.9)) == ["agrees"]
    assert verdicts("figure-1b", looks(0.3)) == ["DISAGREES"]
    assert verdicts("figure-1b", [row("words", "plain", 0, at=20, weights=BEST)]) == ["undecided"]  # it never escaped


@pytest.mark.parametrize("study", FIGURES, ids=lambda study: study.name)
def test_runs_are_planned_once_and_at_both_scales(study: object) -> None:
    name = study.name  # type: ignore[attr-defined]
    planned = STUDIES[name].plan(range(100, 103))
    assert len({one.spec.digest() for one in planned}) == len(planned)
    assert {"plain"} < {one.cell for one in planned}
    large = STUDIES[name].plan([100], scale="paper")
    assert all(one.spec.train.steps > planned[0].spec.train.steps for one in large)
    if name != "figure-1b":
        assert {one.spec.train.steps for one in large} == {46_920}


def test_cells_are_told_in_the_order_of_their_numbers() -> None:
    made = [row("demo", cell, 100) for cell in ("1000 mappings", "32 mappings", "plain", "1 mapping", "4 mappings")]
    shown = STUDIES["figure-3"].judge(made)[0]
    assert [line[1] for line in shown.lines] == ["plain", "1 mapping", "4 mappings", "32 mappings", "1000 mappings"]
