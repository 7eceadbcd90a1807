"""A row of results for each setting, told apart however long its values are."""

from __future__ import annotations

from tiny_run import TINY
from unplateau.cli.results import settings_of
from unplateau.train.spec import expand, read_axis


def test_settings_have_short_names_and_kinds_theirs() -> None:
    axes = [read_axis("train.lr=1e-3,1e-2"), read_axis("train.optimiser=adam,muon")]
    names = settings_of(expand(TINY, axes, range(2)), axes)
    assert len(set(names)) == 4
    assert names[0].startswith("plain, lr=0.001, optimiser=Adam ")
    assert any("optimiser=Muon " in name for name in names)


def test_settings_that_differ_in_the_middle_of_a_long_value_are_told_apart() -> None:
    text = "train.optimiser={kind: AdamW, betas: [0.9, 0.95]},{kind: AdamW, betas: [0.9, 0.999]}"
    axes = [read_axis(text)]
    names = settings_of(expand(TINY, axes, [0]), axes)
    assert len(set(names)) == 2
    assert "betas=(0.9, 0.95)" in names[0]


def test_strategies_of_one_name_are_told_apart() -> None:
    parts = "[{kind: MatchLoss, weight: %s}]"
    axes = [read_axis("strategy=" + ",".join(f"{{parts: {parts % weight}}}" for weight in (0.1, 0.3)))]
    specs = expand(TINY, axes, range(3))
    assert len(set(settings_of(specs, axes))) == 2
