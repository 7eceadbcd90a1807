"""Every block of Python in the documentation runs as it stands, in a process of its own that imports unplateau itself.

Blocks of a page share a folder and nothing else, in the order of the page: what one has written a later one may read.
Those of the README have new interpreters, the others forks (``forked.py``). The demo is cut to 20 steps.
The blocks of extending.md are files, which test_extending.py writes and runs.
"""

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from forked import Python, new_interpreter

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


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=name)
def test_each_block_runs_by_itself(page: Path, python: Python, tmp_path: Path) -> None:
    start = new_interpreter if page.name == "README.md" else python
    path = os.pathsep.join(map(str, (SHORT, ROOT / "src")))
    found = blocks(page)
    for (line, tags, body), (_, next_tags, printed) in pairwise([*found, (0, [], "")]):
        if tags[:1] == ["python"]:
            done = start("-c", body, cwd=tmp_path, MPLBACKEND="agg", PYTHONPATH=path)
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
