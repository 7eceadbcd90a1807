"""Fetching: what is under an archive's name is always whole and right, whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from unit.data.conftest import Keep, package_of, tarball, wheel
from unplateau.data.fetch import archive_of, archive_path, fetch, state
from unplateau.data.packages import PACKAGES, Package, package_named
from unplateau.errors import DataError, SpecError, StorageError

METADATA = b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
WHEEL = wheel(
    {
        "tiny/words.txt": os.urandom(5000),
        "tiny-1.0.dist-info/METADATA": METADATA,
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/RECORD": b"",
    }
)
TINY = package_of(WHEEL)
TGZ = tarball({"package/x": b"x" * 3000})
NPM = package_of(TGZ, "tiny-1.0.tgz", registry="npm")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of npm; tests write what it does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "whole").write_bytes(TGZ)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "npm"


def does(tool: Path, script: str) -> None:
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def child(package: Package) -> list[str]:
    code = f"from unplateau.data.fetch import fetch; from unplateau.data.packages import Package; fetch({package!r})"
    return [sys.executable, "-c", code]


def left_in(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {".lock"}


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.02)


def test_pip_fetches_from_an_index(cache: Path, index: Path) -> None:
    (index / TINY.archive).write_bytes(WHEEL)
    assert state(TINY) == "missing"
    assert fetch(TINY).read_bytes() == WHEEL
    assert state(TINY) == "ok"
    assert left_in(cache) == {TINY.archive}
    (index / TINY.archive).unlink()
    assert archive_of(TINY) == fetch(TINY), "what is there is not fetched again"


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_fetches_a_package(cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "tiny"
    source.mkdir()
    (source / "package.json").write_text('{"name": "tiny", "version": "1.0.0"}')
    (source / "words.txt").write_text("one two\n")
    subprocess.run(["npm", "pack", "--silent", source], cwd=tmp_path, check=True, capture_output=True)
    archive = (tmp_path / "tiny-1.0.0.tgz").read_bytes()
    package = package_of(archive, "tiny-1.0.0.tgz", registry="npm", version=f"file:{source}")
    assert fetch(package).read_bytes() == archive
    assert left_in(cache) == {"tiny-1.0.0.tgz"}


def test_another_file_than_the_pinned_one_is_refused(cache: Path, index: Path) -> None:
    (index / TINY.archive).write_bytes(WHEEL)
    other = replace(TINY, sha256="0" * 64)
    with pytest.raises(DataError, match=rf"tiny: fetched {TINY.archive} with sha256 {TINY.sha256}, expected 0000"):
        fetch(other)
    assert left_in(cache) == set()


@pytest.mark.parametrize("registry", ["pypi", "npm", "debian"])
def test_a_registry_that_cannot_be_had(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch, registry: str
) -> None:
    package = replace(TINY, registry=registry)
    name = package.command()[0]
    if name != "pip" and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(
        DataError, match=rf"tiny: {name} could not fetch it \(.+\); on another machine run: {name} "
    ) as e:
        fetch(package)
    assert f"put {package.archive} into {cache}" in str(e.value)
    assert ("the registry cannot be reached" in str(e.value)) == (registry == "npm"), "the others have no such package"
    assert "\n" not in str(e.value)
    assert left_in(cache) == set()


def test_a_tool_that_is_not_installed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm is not installed here; on another machine run: npm pack tiny@1.0"):
        fetch(NPM)


def test_a_file_put_there_by_hand(keep: Keep, tool: Path) -> None:
    package = keep(TGZ, NPM.archive)
    does(tool, "exit 1")
    assert fetch(package) == archive_of(package) == archive_path(package)


def test_a_changed_file_is_noticed_and_fetched_again(cache: Path, tool: Path, tmp_path: Path) -> None:
    does(tool, f"cp {tmp_path / 'whole'} {NPM.archive}")
    path = fetch(NPM)
    path.write_bytes(TGZ[:-1] + bytes([TGZ[-1] ^ 1]))
    assert state(NPM) == "changed"
    with pytest.raises(DataError, match=r"sha256 is not that of tiny 1.0; remove the file and run: unplateau data get"):
        archive_of(NPM)
    assert fetch(NPM).read_bytes() == TGZ
    assert archive_of(NPM) == path


def test_what_is_not_there_names_the_command(cache: Path) -> None:
    with pytest.raises(DataError, match="tiny is not in the cache; fetch it with: unplateau data get tiny"):
        archive_of(TINY)


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGINT])
def test_a_fetch_that_is_killed_leaves_nothing_under_the_name(
    cache: Path, tool: Path, tmp_path: Path, signal_sent: signal.Signals
) -> None:
    begun = tmp_path / "begun"
    half = f"head -c 100 {tmp_path / 'whole'} > {NPM.archive}"
    does(tool, f"{half}; echo $$ > {begun}.tmp; mv {begun}.tmp {begun}; exec sleep 60")
    fetching = subprocess.Popen(child(NPM), stderr=subprocess.DEVNULL)
    try:
        wait_for(begun)
        fetching.send_signal(signal_sent)
        assert fetching.wait(30) != 0
    finally:
        fetching.kill()
        if signal_sent == signal.SIGKILL:  # else the program was ended by its parent
            os.kill(int(begun.read_text()), signal.SIGKILL)
    assert state(NPM) == "missing"
    assert len(left_in(cache)) == (1 if signal_sent == signal.SIGKILL else 0), "only a kill leaves its folder behind"
    does(tool, f"cp {tmp_path / 'whole'} {NPM.archive}")
    assert fetch(NPM).read_bytes() == TGZ
    assert left_in(cache) == {NPM.archive}, "the next fetch cleans up"


def test_processes_do_not_fetch_at_once(cache: Path, tool: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    does(tool, f"echo fetched >> {log}; sleep 0.3; cp {tmp_path / 'whole'} {NPM.archive}")
    workers = [subprocess.Popen(child(NPM)) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert log.read_text() == "fetched\n"


def test_a_disk_that_refuses(cache: Path, index: Path) -> None:
    """The limit on the size of files stands for a disk that is full: pip is told no in the middle of the file."""
    (index / TINY.archive).write_bytes(WHEEL)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
    python, flag, code = child(TINY)
    done = subprocess.run([python, flag, limit + code], capture_output=True, text=True, check=False)
    assert "StorageError" in done.stderr.splitlines()[-1]
    assert "the disk holds no more" in done.stderr
    assert left_in(cache) == set()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot be written"):
        fetch(TINY)


def test_the_table_of_packages() -> None:
    assert (
        len({package.name for package in PACKAGES}) == len({package.archive for package in PACKAGES}) == len(PACKAGES)
    )
    for package in PACKAGES:
        assert len(bytes.fromhex(package.sha256)) == hashlib.sha256().digest_size
        assert package.version in " ".join(package.command())
        assert package_named(package.name) is package
    with pytest.raises(SpecError, match="unknown data package 'wordnett'; did you mean 'wordnet'"):
        package_named("wordnett")
