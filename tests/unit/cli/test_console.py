"""Formatting."""

import pytest

from unplateau.cli.console import number, print_facts, print_table, size


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


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("a", "1"), ("long", "2"), ("b", "")])
    assert capsys.readouterr().out == "a     1\nlong  2\nb\n"
