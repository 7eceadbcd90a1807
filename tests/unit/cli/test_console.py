"""Formatting."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.cli import console
from unplateau.cli.console import number, print_facts, print_table, size
from unplateau.terminal import Guarded


@pytest.mark.parametrize(
    ("n_bytes", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e6, "2.0 MB"), (5e12, "5000.0 GB")]
)
def test_sizes(n_bytes: float, shown: str) -> None:
    assert size(n_bytes) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0.876, "0.88"), (-0.001, "0.00")])
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_tables_in_a_pipe_are_whole_and_literal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("strategy", "n"), [("mixed[fraction=0.25]", "1"), ("x" * 100, "> 20,000")])
    lines = capsys.readouterr().out.splitlines()
    assert "mixed[fraction=0.25]" in lines[2]
    assert lines[3].split() == ["x" * 100, ">", "20,000"]
    assert not any("\x1b" in line for line in lines)


cells = st.text("ab é日1.-", max_size=12)


def written(rows: list[tuple[str, ...]], encoding: str = "utf-8") -> bytes:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", Guarded(stream))
        print_table(("name", "n", "x"), rows)
        stream.flush()
    return stream.buffer.getvalue()  # type: ignore[attr-defined]


@given(st.lists(st.tuples(cells, cells, cells), max_size=5))
def test_a_table_that_fits_is_written_as_one_that_is_folded(rows: list[tuple[str, ...]]) -> None:
    whole = written(rows)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(console, "_print_whole", lambda *given: console._print_folded(*given[:3]))
        assert written(rows) == whole


def test_a_terminal_of_few_letters_is_written_to_in_these() -> None:
    assert written([("é", "1", "")], "ascii").splitlines()[1:] == [b"-" * 12, rb"\xe9      1    "]


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("a", "1"), ("long", "2"), ("b", "")])
    assert capsys.readouterr().out == "a     1\nlong  2\nb\n"
