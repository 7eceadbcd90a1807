"""Reading how far a run is while it is being written."""

import subprocess
import sys
from pathlib import Path

import pytest

from unplateau import store
from unplateau.sweep.watch import TAIL, is_running, newest_row


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", {}),
        (b'{"step": 0', {}),
        (b'{"step": 0}\n', {"step": 0}),
        (b'{"step": 0}\n{"step": 1', {"step": 0}),
        (b'{"step": 0}\n' + b"x" * TAIL + b'\n{"step": 7}\n', {"step": 7}),
        (b'{"step": 0}\nnonsense\n', {}),
        (b"3\n", {}),
    ],
)
def test_the_last_complete_row(tmp_path: Path, content: bytes, expected: dict[str, int]) -> None:
    (tmp_path / store.METRICS).write_bytes(content)
    assert newest_row(tmp_path) == expected


def test_no_file_is_no_row(tmp_path: Path) -> None:
    assert newest_row(tmp_path / "nowhere") == {}


def test_a_run_is_running_while_another_process_holds_it(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    code = (
        f"from unplateau.store import locked; from pathlib import Path\nwith locked(Path({str(tmp_path)!r})): input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as holder:
        while not is_running(tmp_path) and holder.poll() is None:
            pass
        assert holder.poll() is None
        assert holder.stdin is not None
        holder.communicate(b"\n")
    assert not is_running(tmp_path)
