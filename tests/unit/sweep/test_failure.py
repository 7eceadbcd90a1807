"""What is kept of a run that failed; real ones are in test_local.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from unplateau.store import RunState
from unplateau.sweep.failure import RunFailure


@pytest.mark.parametrize(("said", "kept"), [(["a", "b"], True), (["b"], False), ([], False)])
def test_more_than_the_message_is_kept(tmp_path: Path, said: list[str], kept: bool) -> None:
    run = RunState("plain, seed 0", tmp_path / "recipe" / "plain" / "seed-0-123", 10)
    found, log = RunFailure.of(run, tmp_path, 1, "b", said), tmp_path / ".logs" / "recipe" / "plain" / "seed-0-123.log"
    assert found == RunFailure(run.path, run.name, 1, f"b (its log: {log})" if kept else "b")
    assert log.exists() == kept
    assert not kept or log.read_text() == "a\nb\n"


def test_a_log_that_cannot_be_written_is_not_named(tmp_path: Path) -> None:
    (tmp_path / ".logs").write_text("in the way")
    run = RunState("plain, seed 0", tmp_path / "plain" / "seed-0-123", 10)
    assert RunFailure.of(run, tmp_path, 1, "b", ["a", "b"]).message == "b"
