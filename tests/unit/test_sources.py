"""A run of an edited class is another run: what counts as its code, and what does not."""

from __future__ import annotations

import importlib
import linecache
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unplateau as up
from unplateau import recipes
from unplateau.sources import gathered_source

MODULE = '''
"""Mine."""
from functools import lru_cache
import math

import unplateau as up
import mine_help
from mine_help import helped

RATES = {"low": 0.25}
UNUSED = 3


def rate(step):
    """How much."""
    return RATES["low"] * helped(step)


@lru_cache
def kept(step):
    return step + 1


def unrelated():
    return UNUSED


class Base(up.Mixed):
    def mix(self, step, target, history):
        return super().mix(kept(step), target, history)


class Half(Base):
    """Half of them."""

    fraction: float = 0.4

    def mix(self, step, target, history):
        # a comment
        return [(rate(step) + mine_help.LEAST + math.pi * 0, target.fixed()), (1 - rate(step), target)]
'''
HELP = "LEAST = 0.1\nMOST = 0.9\n\n\ndef helped(step):\n    return 1.0\n"


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The digest of a run with ``Half``, after these edits of both files."""
    monkeypatch.syspath_prepend(tmp_path)

    def digest(*edits: tuple[str, str]) -> str:
        texts = {"mine_module": MODULE, "mine_help": HELP}
        for name, text in texts.items():
            for before, after in edits:
                text = text.replace(before, after)  # noqa: PLW2901
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        linecache.clearcache()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        half = importlib.import_module("mine_module").Half
        return recipes.recall().with_strategy(up.Strategy(half())).digest()

    return digest


@pytest.mark.parametrize(
    "edit",
    [
        ("1 - rate(step)", "1 - rate(step) * 1"),
        ('RATES["low"]', 'RATES["low"] * 2'),
        ('"low": 0.25', '"low": 0.5'),
        ("return step + 1", "return step + 2"),
        ("kept(step), target", "kept(step) + 1, target"),
        ("return 1.0", "return 2.0"),
        ("LEAST = 0.1", "LEAST = 0.2"),
        ("fraction: float = 0.4", "fraction: float = 0.3"),
    ],
)
def test_an_edit_of_what_it_computes_is_another_run(digest_of: Callable[..., str], edit: tuple[str, str]) -> None:
    assert digest_of() == digest_of()
    assert digest_of(edit) != digest_of()


@pytest.mark.parametrize(
    "edit",
    [
        ("# a comment", "# another"),
        ('"""Half of them."""', '"""About half of them."""'),
        ('"""How much."""', ""),
        ("UNUSED = 3", "UNUSED = 4"),
        ("MOST = 0.9", "MOST = 0.8"),
        ("\n\n\n", "\n\n\n\n"),
    ],
)
def test_other_edits_are_not(digest_of: Callable[..., str], edit: tuple[str, str]) -> None:
    assert digest_of(edit) == digest_of()


def test_a_version_of_its_own_stands_for_the_code(digest_of: Callable[..., str]) -> None:
    versioned = ("fraction: float = 0.4", 'code_version = "1"\n    fraction: float = 0.4')
    edited = ("1 - rate(step)", "1.0 - rate(step)")
    assert digest_of(versioned, edited) == digest_of(versioned) != digest_of()
    assert digest_of((versioned[0], versioned[1].replace("1", "2", 1))) != digest_of(versioned)


def test_own_kinds_have_no_code_in_their_digest() -> None:
    """Run directories keep their names."""
    assert recipes.demo().digest() == "bbebb533ff"


def cell(number: int, text: str) -> dict[str, Any]:
    """What a notebook knows after this cell: its source has a name and no file."""
    name = f"/tmp/ipykernel_1/{number}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "a_notebook"}
    exec(compile(text, name, "exec"), space)
    return space


NOTEBOOK = """
import unplateau as up
SHARE = 0.5
def shared(step):
    return SHARE
class Half(up.Mixed):
    def mix(self, step, target, history):
        return [(shared(step), target.fixed()), (1 - shared(step), target)]
"""


def test_cells_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(number: int, text: str) -> str:
        module = type(sys)("a_notebook")
        monkeypatch.setitem(sys.modules, "a_notebook", module)
        vars(module).update(cell(number, text))
        return up.Strategy(module.Half()).digest()

    first = digest(1, NOTEBOOK)
    assert digest(2, NOTEBOOK) == first
    edits = (("SHARE = 0.5", "SHARE = 0.4"), ("return SHARE", "return SHARE / 2"), ("(1 - ", "(1.0 - "))
    assert len({digest(3 + n, NOTEBOOK.replace(*edit)) for n, edit in enumerate(edits)} | {first}) == 4


def test_what_cannot_be_read_is_told(caplog: pytest.LogCaptureFixture) -> None:
    space: dict[str, Any] = {"__name__": "at_a_prompt"}
    exec("import unplateau as up\nclass Half(up.Mixed):\n    def mix(self, s, t, h):\n        return [(1.0, t)]", space)
    with caplog.at_level(logging.WARNING):
        assert gathered_source(space["Half"]) == {"at_a_prompt:Half": ""}
    assert "the source of at_a_prompt:Half cannot be read" in caplog.text
