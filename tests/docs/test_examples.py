"""Every example is short and runs as it stands."""

from pathlib import Path

import pytest

from forked import Python, new_interpreter

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, python: Python, tmp_path: Path) -> None:
    assert len(example.read_text().splitlines()) <= 60
    start = new_interpreter if example == EXAMPLES[0] else python
    done = start(str(example), str(tmp_path), "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.rglob("DONE.json")) or list(tmp_path.rglob("metrics.jsonl"))
