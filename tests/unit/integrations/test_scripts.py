"""Examples are scripts not written for unplateau with ten lines changed, and at weight 0 the same to the bit."""

import difflib
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
pytest.importorskip("lightning", reason="lightning is not installed")

SCRIPTS = Path(__file__).parent / "scripts"
EXAMPLES = Path(__file__).parents[3] / "examples"
PAIRS = {
    "language_modelling_loop": "hf_trainer",
    "nanogpt_style_loop": "plain_loop",
    "lightning_script": "lightning_fit",
    "regression_codebase": "in_context_regression",
    "few_shot_transformer": "own_transformer",
}
FREE = ("in_context_regression", "own_transformer", "lightning_fit")
WITHOUT_AND_WITH = dict.fromkeys(FREE, ("plain", "unplateau")) | {"plain_loop": ("plain", "component-loss")}
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's scripts and their libraries
each = pytest.mark.parametrize(("script", "example"), PAIRS.items(), ids=PAIRS.values())


def losses(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    runpy.run_path(str(path), run_name="__main__")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("losses [")]
    return line


@each
def test_at_most_ten_lines_differ(script: str, example: str) -> None:
    before, after = (
        (folder / f"{name}.py").read_text().splitlines() for folder, name in ((SCRIPTS, script), (EXAMPLES, example))
    )
    changes = [line for line in difflib.ndiff(before, after) if line.startswith(("+ ", "- "))]
    assert 0 < sum(line.startswith("+ ") for line in changes) <= 10
    assert sum(line.startswith("- ") for line in changes) <= 6
    assert not any("unplateau" in line for line in before)


@each
def test_weight_0_is_the_untouched_script_bit_for_bit_and_other_weights_are_not(
    script: str, example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = losses(SCRIPTS / f"{script}.py", capsys, monkeypatch, tmp_path / "a", 30)
    without, with_terms = WITHOUT_AND_WITH.get(example, (0, 0.5))
    assert losses(EXAMPLES / f"{example}.py", capsys, monkeypatch, tmp_path / "b", 30, without) == untouched
    assert losses(EXAMPLES / f"{example}.py", capsys, monkeypatch, tmp_path / "c", 30, with_terms) != untouched
    assert untouched.count(",") == 2
    assert (tmp_path / "c" / "metrics.jsonl").is_file()
