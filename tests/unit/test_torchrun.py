"""What torchrun tells a process of its run, and what is refused where it tells something."""

from pathlib import Path

import pytest

import unplateau as up
from tiny_run import TINY
from unplateau.errors import SpecError
from unplateau.torchrun import NUMBERS, Place, place

ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def told(patch: pytest.MonkeyPatch, numbers: tuple[str, ...], address: dict[str, str] = ADDRESS) -> None:
    for name, value in {**dict(zip(NUMBERS, numbers, strict=True)), **address}.items():
        patch.setenv(name, value)


def test_a_process_is_alone_unless_torchrun_has_told_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() == Place(rank=0, size=1, local_rank=0, local_size=1)
    told(monkeypatch, ("3", "4", "1", "2"), address={})  # other programs set these as well
    assert place() == Place()
    told(monkeypatch, ("3", "4", "1", ""))
    assert place() == Place()
    told(monkeypatch, ("3", "4", "1", "2"))
    assert place() == Place(rank=3, size=4, local_rank=1, local_size=2)


def test_many_runs_are_refused_where_torchrun_has_started_several(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told(monkeypatch, ("1", "2", "1", "2"))
    with pytest.raises(SpecError, match="a sweep starts processes of its own, and torchrun has started 2 of it"):
        up.run_many([TINY], out=tmp_path)
    assert list(tmp_path.iterdir()) == []
