"""The worker process, as far as it can be tested without one."""

import os
import signal
from pathlib import Path

import pytest

from unplateau.sweep import worker


def test_a_wrong_spec_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    code, said = worker.recorded(worker.Job('{"task": {"kind": "FactorTusk"}}', str(tmp_path / "out"), "run"))
    assert code == 2
    assert "FactorTask" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_it_asks_itself_to_stop_when_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    parents = iter([7, 7, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda _, number: sent.append(number))
    monkeypatch.setattr(worker, "PATIENCE", 0)
    worker.stop_with(7)
    assert sent == [signal.SIGTERM]
