"""``unplateau demo`` and what reads its runs, on a demo that is cut short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SHORT = ("--set", "train.steps=4", "--set", "train.eval_every=1", "--set", "train.probe_every=2")
SHORT += ("--set", "train.eval_prompts=8", "--set", "train.probe_prompts=16", "--set", "train.final_prompts=8")
SHORT += ("--set", "task.n_pairs=4")
STRATEGIES = ["plain", "warm-up[steps=150]", "mixed", "weights-loss", "unplateau"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def test_demo_then_its_readers(cli: Any, demo: Path) -> None:
    """One story, because the demo costs a process for each strategy: all that reads runs looks at the same ones."""
    command = ("demo", "--out", str(demo), "--seeds", "1", *SHORT)
    first = cli.anew(*command, UNPLATEAU_CACHE=str(demo / "cache"))
    table = [line.split()[0] for line in first.stdout.split("\n\n")[0].splitlines()[2:]]
    assert sorted(table) == sorted(STRATEGIES)
    assert table[0] == "plain"
    assert f"report   {demo / 'report.html'}" in first.stdout
    assert "Bayes-optimal" in first.stdout
    assert "cut self" in first.stdout
    assert "\x1b" not in first.stdout + first.stderr
    _check_summary(json.loads((demo / "summary.json").read_text()))
    page = (demo / "report.html").read_bytes()

    again = cli(*command, UNPLATEAU_CACHE=str(demo / "cache"))
    assert again.stdout == first.stdout
    *runs, every = again.stderr.splitlines()
    assert again.stderr.count(" done") == len([*runs, every]) == len(STRATEGIES) + 1
    assert every == f"all runs: 100 %  {len(STRATEGIES)} of {len(STRATEGIES)} done"
    assert (demo / "report.html").read_bytes() == page

    _check_readers(cli, demo)


def _check_summary(summary: dict[str, Any]) -> None:
    assert sorted(run["strategy"] for run in summary["runs"]) == sorted(STRATEGIES)
    wanted = {"strategy", "seed", "steps", "escape_step", "completion_step", "final_progress", "final_accuracy"}
    wanted |= {"weights_score", "plateaus", "train_flops", "seconds", "joules", "energy_method"}
    assert all(wanted <= set(run) for run in summary["runs"])
    assert summary["comparisons"]


def _check_readers(cli: Any, demo: Path) -> None:
    run = next((demo / "demo" / "plain").iterdir())
    compared = json.loads(cli.anew("compare", str(demo), "--json").stdout)
    assert compared["strategies"][0]["strategy"] == "plain"
    assert "did you mean 'mixed'" in cli.refused("compare", str(demo), "--baseline", "mixd")
    shown = cli.anew("show", str(run)).stdout
    assert all(part in shown for part in ("escape", "completion", "cut self", "kind: Shapes3D", f"demo --out {demo}"))
    scores = json.loads(cli.anew("probe", str(run), "--json", "--n-train", "64", "--n-test", "64").stdout)
    assert {(score["component"], score["cut"]) for score in scores} == {("weights", "self")}
    assert len(scores) == 4 * 6
    figures = cli.folder / "figures"
    written = cli.anew(
        "report", str(demo), "--out", str(cli.folder / "r.html"), "--figures", str(figures), "--csv"
    ).stdout
    assert sorted(Path(line) for line in written.splitlines()) == sorted([cli.folder / "r.html", *figures.iterdir()])
