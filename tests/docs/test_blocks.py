"""Every block of Python in the documentation runs as it stands, in a fresh interpreter of its own.

Blocks of a page share a folder and nothing else, in the order of the page: what one has written a later one may read.
The demo is cut to 20 steps. The blocks of extending.md are files, which test_extending.py writes and runs.
"""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHORT = Path(__file__).parent / "short"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
FENCE = re.compile(
    r"^ *(?P<fence>`{3,}|~{3,})(?P<tag>[^\n`]*)\n(?P<body>.*?)^ *(?P=fence) *$", re.MULTILINE | re.DOTALL
)
LANGUAGES = {"python", "console", "yaml", "json", "text", "diff", "sh", "html", "css"}


def blocks(page: Path) -> list[tuple[int, list[str], str]]:
    """First line number, tags and text of each fenced block."""
    text = page.read_text("utf-8")
    return [(text.count("\n", 0, at.start("body")), at["tag"].split(), at["body"]) for at in FENCE.finditer(text)]


def programs(page: Path) -> list[tuple[int, str]]:
    """First line number and text of each block of Python."""
    return [(line, body) for line, tags, body in blocks(page) if tags[:1] == ["python"]]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


SHOWING = (DOCS / "flat.md",)
"""Pages on which a block of text behind a program is what it prints."""
WITH_PROGRAMS = [page for page in PAGES if page.name != "extending.md" and programs(page)]


def ran(body: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The block as a program of its own in this folder."""
    path = os.pathsep.join(map(str, (SHORT, ROOT / "src")))
    settings = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    interpreter = [sys.executable, "-"]
    return subprocess.run(
        interpreter, input=body, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=name)
def test_each_block_runs_in_an_interpreter_of_its_own(page: Path, tmp_path: Path) -> None:
    found = blocks(page)
    for (line, tags, body), (_, next_tags, printed) in pairwise([*found, (0, [], "")]):
        if tags[:1] == ["python"]:
            done = ran(body, tmp_path)
            assert done.returncode == 0, f"{name(page)}, block from line {line + 1}:\n{done.stderr}"
            if page in SHOWING and next_tags == ["text"]:
                assert done.stdout == printed, f"{name(page)}, block from line {line + 1}"


def test_no_block_of_python_is_left_out() -> None:
    """Neither by a tag behind the language, nor by another name of it, nor by none."""
    for page in PAGES:
        for line, tags, _ in blocks(page):
            where = f"{name(page)}, block from line {line + 1}"
            directive = tags and tags[0].startswith("{")
            assert directive or (tags[:1] and tags[0] in LANGUAGES), f"{where}: its language is not named, or not known"
            assert directive or len(tags) == 1, f"{where}: {tags}"
