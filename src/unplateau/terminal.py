"""Text as a terminal may see it: what files, keys, paths and arguments hold is shown and never obeyed."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

MOST_WORD = 240
"""Characters of a word in a message; longer ones lose their middle."""
MOST_MESSAGE = 1000
"""Characters of a message."""
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters but for tab and line break, what turns the direction of writing, and halves of characters."""


def printable(text: str) -> str:
    r"""The text with control characters written out, such as ``\x1b``; tabs and line breaks stay."""
    return _UNSAFE.sub(lambda found: _written_out(found[0]), text)


def _written_out(letter: str) -> str:
    return f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{ord(letter):04x}"


def one_line(text: str) -> str:
    """The text on one line, control characters written out, spaces closed up."""
    return " ".join(printable(" ".join(text.split(" "))).split())


def message(text: str) -> str:
    """One line of at most ``MOST_MESSAGE`` characters: long words and long messages lose their middle."""
    said = re.sub(
        rf"\S{{{MOST_WORD},}}", lambda word: shortened(word[0], MOST_WORD), one_line(text[: 100 * MOST_MESSAGE])
    )
    return shortened(said, MOST_MESSAGE)


def shortened(text: str, most: int) -> str:
    """The text, without its middle where it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    kept = (most - 3) // 2
    return f"{text[:kept]}...{text[-kept:]}"


class Guarded:
    r"""A stream of text on which control characters are written out; all else is that of the stream inside.

    ``returns``: whether ``\r`` stays, with which bars of other programs go back to the start of their line.
    """

    def __init__(self, stream: TextIO, *, returns: bool = False) -> None:
        self.inside, self.returns = stream, returns

    def write(self, text: str) -> int:
        """Writes it, in whatever the encoding of the stream has for its characters."""
        encoding = self.inside.encoding or "utf-8"
        lines = text.split("\r") if self.returns else [text]
        shown = "\r".join(map(printable, lines)).encode(encoding, errors="backslashreplace").decode(encoding)
        self.inside.write(shown)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)


@contextmanager
def guarded() -> Iterator[None]:
    """What is printed inside the block goes through a guard, on standard output and standard error."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Guarded(before[0]), Guarded(before[1], returns=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unguarded(stream: Any) -> Any:
    """The stream inside, for those who write colours and bars themselves and guard the text in them."""
    return stream.inside if isinstance(stream, Guarded) else stream
