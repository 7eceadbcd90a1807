"""``unplateau diagnose`` on a run, on a function of one's own, and on what is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

OWN = """
from unplateau import FactorTask, ModelConfig, RandomCodes

TASK = FactorTask(source=RandomCodes(sizes=(3, 3), width=8, copies=4), n_pairs=4)


def mine():
    return ModelConfig(n_layers=1, width=16).build(TASK.shape, seed=0), TASK


def half():
    return TASK, mine()[0]


def with_arguments(which):
    return mine()


def wider():
    return mine()[0], TASK.model_copy(update={"source": RandomCodes(sizes=(3, 3), width=9, copies=4)})


def raw():
    import torch

    return torch.nn.Linear(3, 3), TASK


def fails():
    raise ValueError("no weights here")
"""


def test_a_run_is_diagnosed_in_sentences_and_as_json(cli: Any, whole: Path) -> None:
    run = str(cli.run_below(whole))
    told = cli.anew("diagnose", run, "--n-prompts", "64").stdout.splitlines()
    assert told[0].endswith("on held-out prompts.")
    assert sum("chance" in line and "control" in line for line in told) == 6  # two factors, and the four other things
    found = json.loads(cli("diagnose", run, "--n-prompts", "64", "--json").stdout)
    assert found["sentences"] == told
    assert {one["thing"] for one in found["findings"]} == {"items", "labels", "kept labels", "queries", "inference"}
    newest = str(cli.checkpoints(Path(run))[-1])
    assert cli("diagnose", newest, "--n-prompts", "64").stdout.splitlines() == told


def test_a_function_of_ones_own_is_diagnosed(cli: Any) -> None:
    (cli.folder / "own.py").write_text(OWN)
    told = cli("diagnose", "own:mine", "--n-prompts", "64").stdout.splitlines()
    assert told[0].startswith("It is on its plateau")
    wanted = "must be a function without arguments that returns (model, task)"
    for name in ("with_arguments", "TASK"):
        done = cli("diagnose", f"own:{name}", code=2)
        assert wanted in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("half", "Transformer is no task: it has no sample and shape"),
        ("wider", "the model cannot read the prompts of the task (RuntimeError"),
        ("raw", "Linear cannot be taken apart: it lacks n_layers"),
        ("fails", "'own:fails' failed: ValueError: no weights here"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(cli: Any, name: str, told: str) -> None:
    (cli.folder / "own.py").write_text(OWN)
    assert told in cli("diagnose", f"own:{name}", code=2).stderr.splitlines()[-1]


def test_what_is_no_run_is_refused_in_one_line(cli: Any, whole: Path) -> None:
    assert "neither a run directory nor one of its checkpoints" in cli.refused("diagnose", "nowhere")
    assert "names the runs in a folder" in cli.refused("diagnose", str(whole))
    assert "at least 64" in cli.refused("diagnose", str(cli.run_below(whole)), "--n-prompts", "2")
