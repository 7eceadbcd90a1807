"""The cache: built once, made again where it is damaged, and only a matter of time where it cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.full_disk import names, with_files_of_at_most

from unplateau.cache import Arrays, cache_dir, cache_path, cached, load_arrays, save_arrays
from unplateau.errors import StorageError
from unplateau.files import lock_of

ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.array(7)}


class Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return ARRAYS


def same(found: Arrays | None) -> bool:
    return (
        found is not None and found.keys() == ARRAYS.keys() and all(np.array_equal(found[k], ARRAYS[k]) for k in ARRAYS)
    )


def test_built_once_and_read_afterwards(tmp_path: Path) -> None:
    build = Builder()
    path = tmp_path / "deep" / "er" / "x.safetensors"
    assert same(cached(path, build))
    assert same(cached(path, build))
    assert build.calls == 1
    assert names(path.parent) == {path.name, lock_of(path).name}


@pytest.mark.parametrize("damage", ["truncated", "altered", "foreign", "empty", "a folder's worth of nothing"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    save_arrays(path, ARRAYS)
    content = path.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "altered": content[:-1] + bytes([content[-1] ^ 1]),
        "foreign": b"hello" * 100,
        "empty": b"",
    }
    path.write_bytes(damaged.get(damage, bytes(500)))
    assert load_arrays(path) is None
    build = Builder()
    assert same(cached(path, build))
    assert build.calls == 1
    assert same(load_arrays(path))


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    build = Builder()
    path = tmp_path / "file" / "x.safetensors"
    assert same(cached(path, build))
    assert same(cached(path, build))
    assert build.calls == 2


def test_a_full_disk_only_costs_time(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def work() -> None:
        assert cached(path, lambda: {"a": np.ones(300_000)})["a"].sum() == 300_000
        raise StorageError("cannot be written is what is expected, and it was passed over")

    assert with_files_of_at_most(1000, work) == 0
    assert names(tmp_path) == {lock_of(path).name}


def test_a_failing_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.mkdir()
    with pytest.raises(StorageError, match="directory"):
        save_arrays(path, ARRAYS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [FileNotFoundError("the source is gone"), StorageError("the source is gone")])
def test_an_error_while_building_is_passed_on(tmp_path: Path, error: Exception) -> None:
    calls = []

    def build() -> Arrays:
        calls.append(1)
        raise error

    with pytest.raises(type(error), match="gone"):
        cached(tmp_path / "x.safetensors", build)
    assert len(calls) == 1


def test_two_processes_build_once(tmp_path: Path) -> None:
    script = f"""
import time, numpy as np
from pathlib import Path
from unplateau.cache import cached
def build():
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write("built\\n")
    time.sleep(0.3)
    return {{"a": np.ones(3)}}
assert cached(Path({str(tmp_path / "x.safetensors")!r}), build)["a"].sum() == 3
"""
    workers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_the_place_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    assert cache_path("name", [1, "x"]) == cache_path("name", [1, "x"])
    assert len({cache_path("name", 1), cache_path("name", 2), cache_path("other", 1)}) == 3
    monkeypatch.setenv("UNPLATEAU_CACHE", "")
    assert cache_dir().name == "unplateau"


def test_files_of_the_cache_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What earlier versions have cached is found again."""
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path))
    assert cache_path("shapes3d-pca", ["x"]).name == "shapes3d-pca-0d0313c45bccabb2.safetensors"
    path = tmp_path / "x.safetensors"
    save_arrays(path, {"a": np.arange(3)})
    assert b'"checksum":"7ef65b21f7dff996a00a9945c0337afeffdab509f32c70a5cfd1c901f315297d"' in path.read_bytes()
