"""What a terminal may see: nothing that it would obey, and nothing without an end."""

import io
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from unplateau.terminal import MOST_MESSAGE, Guarded, guarded, message, one_line, printable, shortened, unguarded

texts = st.text(st.characters(blacklist_categories=()), max_size=80)


@given(texts)
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    left = printable(text).replace("\n", "").replace("\t", "")
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in left)
    assert not any(
        unicodedata.bidirectional(letter) in ("RLO", "LRO", "RLE", "LRE", "PDF", "LRI", "RLI") for letter in left
    )
    left.encode()


@given(texts)
def test_a_second_time_changes_nothing(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    assert message(message(text)) == message(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=80))
def test_letters_of_all_languages_stay(text: str) -> None:
    assert printable(text) == text


def test_what_is_written_out_can_be_read() -> None:
    assert printable("\x1b[31mred\x07 \u202e \udcff") == r"\x1b[31mred\x07 \u202e \udcff"
    assert one_line("a\n b\r\nc\x85d \x1b") == r"a b\x0d c\x85d \x1b"


@given(st.text(max_size=5000) | st.integers(1, 10**6).map("x".__mul__))
def test_a_message_is_one_line_with_an_end(text: str) -> None:
    said = message(text)
    assert len(said.splitlines()) <= 1
    assert len(said) <= MOST_MESSAGE


def test_what_is_shortened_keeps_its_ends() -> None:
    assert shortened("x" * 30, 30) == "x" * 30
    assert shortened("a" + "x" * 60 + "b", 21) == "axxxxxxxx...xxxxxxxxb"
    assert message(f"unknown key '{'x' * 9000}'; did you mean 'seed'?").endswith("x'; did you mean 'seed'?")


@given(texts)
def test_a_guarded_stream_writes_in_its_encoding(text: str) -> None:
    inside = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    assert Guarded(inside).write(text) == len(text)
    inside.flush()
    assert inside.buffer.getvalue().decode("ascii").isascii()  # type: ignore[attr-defined]


def test_both_streams_are_guarded_inside_the_block_and_as_before_behind_it(capsys) -> None:
    before = sys.stdout, sys.stderr
    with guarded():
        sys.stdout.write("\x1b[31m\n")
        sys.stderr.write("\x9b\n")
        assert (unguarded(sys.stdout), unguarded(sys.stderr)) == before
    assert (sys.stdout, sys.stderr) == before
    assert tuple(capsys.readouterr()) == ("\\x1b[31m\n", "\\x9b\n")
