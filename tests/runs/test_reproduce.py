"""``unplateau reproduce language`` on runs that are cut short."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

SHORT = ("train.steps=2", "train.eval_every=1", "train.probe_every=1", "train.probe_prompts=16", "train.batch_size=8")
SHORT += ("train.final_prompts=8", "model.width=16", "model.n_layers=2", "task.n_pairs=4")


def test_language_reports_each_recipe_on_its_own(cli: Any, tmp_path: Path) -> None:
    settings = [part for setting in SHORT for part in ("--set", setting)]
    told = cli.anew("reproduce", "language", "--out", str(tmp_path), "--seeds", "1", *settings).stdout
    for recipe, words in (("words", "topic 0"), ("word-selection", "The answer is the word whose topic is")):
        summary = json.loads((tmp_path / recipe / "summary.json").read_text())
        assert [run["seed"] for run in summary["runs"]] == [100] * 5
        assert len({run["strategy"] for run in summary["runs"]}) == 5
        page = (tmp_path / recipe / "report.html").read_text()
        assert "in-words" in page
        assert words.split(" 0")[0] in page
        assert f"\n{recipe}\n" in told


def test_a_study_is_trained_judged_and_judged_again_from_its_rows(cli: Any, tmp_path: Path) -> None:
    settings = [part for setting in SHORT for part in ("--set", setting)]
    out = str(tmp_path / "out")
    told = cli("reproduce", "figure-1b", "--seeds", "1", "--out", out, *settings).stdout
    rows = [json.loads(line) for line in (tmp_path / "out" / "figure-1b.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [2, 2]
    assert "undecided" in told
    for directory in [path.parent for path in (tmp_path / "out").rglob("spec.json")]:
        shutil.rmtree(directory)  # the rows are enough: nothing is trained again
    assert cli("reproduce", "figure-1b", "--seeds", "1", "--out", out, *settings).stdout == told.partition("runs\n")[2]
    assert not list((tmp_path / "out").rglob("spec.json"))
    again = cli("reproduce", "figure-1b", "--results", str(tmp_path / "out" / "figure-1b.jsonl")).stdout
    assert again.strip() in told
    assert "no part 'recal'; did you mean 'recall'" in cli.refused("reproduce", "crossing", "--only", "recal")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    assert "not the rows of a study" in cli.refused("reproduce", "crossing", "--results", str(tmp_path / "rows.jsonl"))


def test_recorded_steps_and_stacks_are_the_same_study(cli: Any, tmp_path: Path) -> None:
    """What has a row is not trained again, whatever trained it."""
    settings = [part for setting in SHORT for part in ("--set", setting)]
    chosen = ["reproduce", "figure-1b", "--seeds", "2", "--out", str(tmp_path), *settings]
    assert " runs\n" in cli(*chosen, "--set", "train.execution=graphed", "--engine", "stack").stdout
    before = (tmp_path / "figure-1b.jsonl").read_bytes()
    assert " runs\n" not in cli(*chosen).stdout
    assert (tmp_path / "figure-1b.jsonl").read_bytes() == before
    assert "--engine stack is for studies" in cli.refused("reproduce", "language", "--engine", "stack")
