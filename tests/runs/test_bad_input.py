"""Wrong input: one clear line that says what, where and what would be right; exit code 2.

Through the program's own entry in this process; ``test_limits`` has refusals in processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unplateau.cli.main import main

Refused = Callable[..., str]


@pytest.fixture
def refused(cli: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """What the program says of these arguments when it refuses them, beside ``tiny.json``."""
    monkeypatch.chdir(cli.folder)

    def ask(*arguments: str) -> str:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), err
        (line,) = err.splitlines()
        assert line.startswith("unplateau: ")
        return line.removeprefix("unplateau: ")

    return ask


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("train dmo", ("unknown recipe 'dmo'", "did you mean 'demo'")),
        ("train nowhere.yaml", ("nowhere.yaml: cannot be read", "No such file")),
        ("train tiny.json --set train.stepz=3", ("train.stepz", "did you mean 'steps'")),
        ("train tiny.json --set strategy=mixt", ("'mixt'", "did you mean 'Mixed'")),
        ("train tiny.json --set task.hidden=[bb]", ("unknown factor 'bb'", "did you mean 'b'")),
        ("train tiny.json --set task.n_pairs=400", ("n_pairs 400", "never repeats an item")),
        ("train tiny.json --set model.n_heads=3", ("width 16", "n_heads 3")),
        (
            "train tiny.json --set strategy=mixed --set strategy.parts.0.fraction=1.5",
            ("strategy.parts.0.fraction", "less than 1"),
        ),
        ("train tiny.json --set train.optimiser=muno", ("train.optimiser", "'muno'", "did you mean 'Muon'")),
        (
            "train tiny.json --set train.optimiser=muon --set train.optimiser.modules=[block]",
            ("train.optimiser: modules", "did you mean 'blocks'"),
        ),
        ("train tiny.json --set train.clip_norm=0", ("train.clip_norm", "greater than 0")),
        ("train tiny.json --device gpu", ("device 'gpu'", "auto or cpu")),
        ("sweep tiny.json --engine rya", ("--engine", "'rya'", "'ray'")),
        ("sweep tiny.json --axis train.steps=", ("axis train.steps", "at least one value")),
        ("probe nowhere", ("nowhere", "neither a run directory nor")),
        ("probe nowhere/model --task tiny.json", ("tiny.json",)),
        ("data get wordnett", ("'wordnett'", "did you mean 'wordnet'")),
        ("reproduce langauge", ("card", "did you mean 'language'")),
        ("train words --set task.source.attributes=[topik]", ("unknown attribute 'topik'", "did you mean 'topic'")),
        ("train words --set task.source.lexicon=mine.tsv", ("mine.tsv", "cannot be read")),
        ("train tiny.json --set task.n_pairs=1", ("no progress to measure", "n_pairs")),
        ("probe runs --labels a,b", ("--labels", "need --task")),
        ("train words --set task.n_pairs=200", ("n_pairs 200", "never repeats an item")),
        ("train word-selection --set task.n_words=7", ("n_words 7", "6 topics")),
        ("train words --set strategy=component-loss --set strategy.parts.0.layer=9", ("layer 9", "3 layers")),
        ("show nowhere", ("nowhere", "not a run directory")),
        ("ls nowhere", ("nowhere", "no such directory")),
        ("compare nowhere", ("nowhere",)),
        ("report nowhere", ("nowhere",)),
        ("plateaus", ("LOG is missing",)),
        ("plateaus tiny.json", ("tiny.json: looks like a JSON object", "points at most", "at least 8 needed")),
        ("plateaus . --value loss", ("a folder without a log", "there is tiny.json")),
        ("plateaus tiny.json --segmnt 2", ("unknown option '--segmnt'", "did you mean '--segment'")),
        ("demo --seeds 0", ("--seeds", "at least 1")),
        ("trian tiny.json", ("unknown command 'trian'", "did you mean 'train'")),
        ("train tiny.json --sead 3", ("unknown option '--sead'", "did you mean '--seed'")),
        ("train tiny.json --seed x", ("--seed", "'x'")),
        ("probe runs --cut selv", ("--cut", "'selv'", "did you mean 'self'")),
    ],
)
def test_one_line_and_exit_code_2(refused: Refused, arguments: str, parts: tuple[str, ...]) -> None:
    message = refused(*arguments.split())
    assert all(part in message for part in parts), message
    assert not Path("runs").exists(), "nothing is begun"


def test_debug_shows_where(cli: Any) -> None:
    process = cli.start("trian", "--debug")
    _, err = process.communicate()
    assert "Traceback" in err


@pytest.mark.parametrize("content", ["{", "task: {kind: FactorTusk}"])
def test_files_that_are_no_spec(refused: Refused, content: str) -> None:
    Path("spec.yaml").write_text(content)
    assert "spec.yaml" in refused("train", "spec.yaml")


@pytest.fixture
def shapes_file(tmp_path: Path) -> Path:
    """A file of the kind of 3dshapes.h5 that is not whole, next to one that is something else."""
    h5py = pytest.importorskip("h5py", reason="the extra 'h5' is not installed")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["something"] = [1, 2, 3]
    (tmp_path / "truncated.h5").write_bytes((tmp_path / "foreign.h5").read_bytes()[:500])
    (tmp_path / "text.h5").write_text("not HDF5 at all")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("foreign.h5", "no dataset 'images'"),
        ("truncated.h5", "not a whole HDF5 file"),
        ("missing.h5", "cannot be read"),
    ],
)
def test_image_files(refused: Refused, shapes_file: Path, name: str, part: str) -> None:
    source = f"task.source={{kind: Shapes3DFile, path: {shapes_file / name}}}"
    message = refused("train", "tiny.json", "--set", source)
    assert name in message
    assert part in message
