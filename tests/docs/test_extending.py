"""Every example of docs/extending.md does what it says: files are written, commands run, changes applied."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from forked import Python, new_interpreter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = re.compile(r"# (?P<name>[\w/]+\.(?:py|yaml))\n")
SECTIONS = [part.split("\n", 1)[0] for part in PAGE.split("\n## ")[1:]]


def blocks(text: str, *languages: str) -> list[str]:
    return [match["body"] for match in FENCE.finditer(text) if match["language"] in languages]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the page, and a copy of the package with its changes."""
    folder = tmp_path_factory.mktemp("extending")
    for body in blocks(PAGE, "python", "yaml"):
        found = FILES.match(body)
        assert found, f"the first line names the file: {body[:60]}"
        path = folder / found["name"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
    shutil.copytree(ROOT / "src", folder / "src")
    for body in blocks(PAGE, "diff"):
        subprocess.run(["git", "apply"], input=body, text=True, cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("section", SECTIONS)
def test_section(section: str, python: Python, folder: Path) -> None:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    commands = [line[2:] for body in blocks(text, "console") for line in body.splitlines() if line.startswith("$ ")]
    assert blocks(text, "python", "diff")
    start = new_interpreter if section == SECTIONS[0] else python
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "grep":
            done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
        else:
            assert program in ("unplateau", "python")
            module = ["-m", "unplateau"] if program == "unplateau" else []
            done = start(*module, *arguments, cwd=folder, PYTHONPATH=str(folder / "src"))
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_every_extension_point_has_a_section() -> None:
    table = PAGE.split("\n## ")[0]
    linked = re.findall(r"\]\(#([\w-]+)\)", table)
    assert linked
    assert {name.lower().replace(" ", "-") for name in SECTIONS} == set(linked)


def test_what_the_table_names_is_there() -> None:
    table = PAGE.split("\n## ")[0]
    for name in re.findall(r"`([\w/]+\.py)`", table):
        assert (ROOT / "src" / "unplateau" / name).is_file(), name
    for name in re.findall(r"(tests/[\w/]+(?:\.py)?)", table):
        assert (ROOT / name).exists(), name
