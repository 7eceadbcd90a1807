"""A run in a process of its own that does not end when it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_runs import SPEC
from unplateau.store import RunState
from unplateau.sweep import process
from unplateau.sweep.launch import Watched
from unplateau.sweep.process import RunProcess


class Silent(Watched):
    """A job of which nobody ever says that it has ended."""

    returncode = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def poll(self) -> int | None:
        return None

    def terminate(self) -> None:
        self.asked.append("terminate")

    def kill(self) -> None:
        self.asked.append("kill")


def test_nobody_waits_for_a_job_that_never_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "KILLED", 0.3)
    said, job = tmp_path / "said", Silent()
    said.touch()
    run = RunState("plain, seed 0", tmp_path / "run", SPEC.train.steps)
    one = RunProcess(SPEC, run, tmp_path, said, lambda _, __: job, threads=1, device="cpu")
    one.ask_to_stop()
    one.wait(0.3)
    assert job.asked == ["terminate", "kill"]
    assert one.failure() is None
