"""Tasks, items, strategies, models and recipes of one's own, named by address; and runs whose code or data are gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_directories import DEMO, make_runs
from unplateau.cli.main import main
from unplateau.config import Kind
from unplateau.train.checkpoint import load_model

OWN = """
import unplateau as up
from unplateau.decompose import Architecture


class Coins(up.RandomCodes):
    pass


class Guess(up.FactorTask):
    pass


class Half(up.Mixed):
    fraction: float = 0.4


class Nudge(up.WeightsLoss):
    weight: float = 0.2


class Narrow(Architecture):
    n_layers: int = 2

    def build(self, shape, *, seed):
        return up.ModelConfig(n_layers=self.n_layers, width=self.width).build(shape, seed=seed)


def recipe():
    task = Guess(source=Coins(sizes=(3, 3), width=8, copies=4), n_pairs=4)
    train = up.TrainConfig(steps=20, batch_size=8, probe_prompts=16, final_prompts=16)
    return up.RunSpec(recipe="own", task=task, model=Narrow(width=16), train=train)
"""
REFUSED = "'{}' would have to be imported, which --no-import refuses"
SAID = "unplateau: importing mine, which 'mine:{}' names (--no-import refuses it)"


@pytest.fixture
def here(
    cli: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the program in this process, in the folder of ``cli``, and returns its exit code and what it said."""
    monkeypatch.setattr(Kind, "may_import", True)  # what --no-import changes is put back afterwards
    monkeypatch.chdir(cli.folder)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        told = capfd.readouterr()
        return code, told.out if code == 0 else told.err

    return run


@pytest.fixture
def own(cli: Any) -> Path:
    """A spec that is made of the classes of a module beside it."""
    (cli.folder / "mine.py").write_text(OWN)
    spec = json.loads((cli.folder / cli.tiny(train__steps=20)).read_text())
    spec["task"]["kind"], spec["task"]["source"]["kind"] = "mine:Guess", "mine:Coins"
    spec |= {"model": {"kind": "mine:Narrow", "width": 16}, "strategy": "mine:Half+mine:Nudge"}
    path: Path = cli.folder / "own.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_a_spec_of_ones_own_classes(cli: Any, own: Path) -> None:
    done = cli("train", "own.yaml", PYTHONSAFEPATH="1")  # as the installed program, which does not see this folder
    assert [line for line in done.stderr.splitlines() if "importing" in line] == [SAID.format("Guess")]
    run = cli.run_below(cli.folder / "runs")
    assert run.parent.name == "half+nudge"
    written = json.loads((run / "spec.json").read_text())
    kinds = (written["task"], written["task"]["source"], written["model"], *written["strategy"]["parts"])
    assert [one["kind"] for one in kinds] == [f"mine:{name}" for name in ("Guess", "Coins", "Narrow", "Half", "Nudge")]

    probed = cli("probe", str(run), "--json", "--n-train", "32", "--n-test", "32")
    assert len(json.loads(probed.stdout)) == 3 * 2
    assert probed.stderr.splitlines() == [SAID.format("Guess")]


def test_imports_are_refused_if_asked(here: Callable[..., tuple[int, str]], own: Path) -> None:
    for command in (["--no-import", "train", "own.yaml"], ["sweep", "own.yaml", "--no-import"]):
        assert here(*command) == (2, f"unplateau: own.yaml: task: {REFUSED.format('mine:Guess')}\n")
    assert here("train", "mine:recipe", "--no-import") == (2, f"unplateau: {REFUSED.format('mine:recipe')}\n")
    assert not Path("runs").exists()
    assert "mine" not in sys.modules


def test_a_recipe_of_ones_own_is_swept(cli: Any, own: Path) -> None:
    sweep = ("sweep", "mine:recipe", "--axis", "strategy=plain,mine:Half", "--workers", "2")
    done = cli(*sweep, PYTHONSAFEPATH="1")
    assert done.stdout.count(" done ") == 2
    assert done.stderr.count("importing") == 1
    assert "finished before" in cli("train", "mine:recipe").stdout


def test_readers_need_no_code(here: Callable[..., tuple[int, str]]) -> None:
    runs = [record.path for record in make_runs(Path("runs"), DEMO)]
    for run in runs:
        spec = json.loads((run / "spec.json").read_text())
        spec["task"], spec["model"] = {"kind": "nowhere.at_all:Thing", "n": 3}, {"kind": "nowhere.at_all:Model"}
        (run / "spec.json").write_text(json.dumps(spec))
    for command in (["ls", "runs"], ["show", str(runs[0])], ["compare", "runs"], ["report", "runs"]):
        code, told = here("--no-import", *command)
        assert code == 0, told
        assert told


def sentences(folder: Path) -> dict[str, Any]:
    """A source of sentences in a file."""
    lines = [
        f"the {colour} {thing} number {n}\t{colour}" for colour in ("red", "blue") for thing in "ab" for n in range(9)
    ]
    (folder / "data.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    return {"kind": "LabelledText", "corpus": "data.tsv", "written": "bag"}


def lexicon(folder: Path) -> dict[str, Any]:
    """A source of words in a file."""
    lines = [f"{letter}{other}\t{number % 2}" for number, letter in enumerate("abcdefgh") for other in "xyzvw"]
    (folder / "data.tsv").write_text("word\ttopic\n" + "\n".join(lines) + "\n")
    return {"kind": "Words", "lexicon": "data.tsv", "attributes": ["topic"]}


@pytest.mark.parametrize("source", [sentences, lexicon])
def test_a_finished_run_outlives_its_data(cli: Any, here: Callable[..., tuple[int, str]], source: Any) -> None:
    cli.tiny("spec.json", task__source=source(cli.folder), train__steps=20)
    cli("train", "spec.json")  # in a process of its own, so that this one has never seen the data
    (cli.folder / "data.tsv").unlink()
    run = cli.run_below(Path("runs"))
    spec, model = load_model(run)
    assert (spec.model.n_layers, model.n_layers) == (2, 2)
    for command in ("train spec.json", "sweep spec.json", "ls runs", f"show {run}", "report runs"):
        assert here(*command.split())[0] == 0, command
    for command in (f"probe {run}", "train spec.json --seed 1", "sweep spec.json --seeds 2"):
        assert here(*command.split()) == (2, "unplateau: data.tsv: cannot be read (No such file or directory)\n")
