"""Which tokens write which characters: exact bookkeeping between a text and its tokens.

What enters: offsets as a fast tokenizer gives them, and spans of characters. What leaves: spans of tokens, or a
SpecError where a token belongs to two things at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unplateau.errors import SpecError

Span = tuple[int, int]


@dataclass(frozen=True)
class Written:
    """One prompt as text, with the characters of each unit and of each label.

    A unit is what has factors: the item, or each word of an item where every word has its own.
    """

    text: str
    parts: tuple[Span, ...]
    labels: tuple[Span, ...]


@dataclass(frozen=True)
class Tokenised:
    """One prompt as tokens: which of them (from, to) write each unit, and which is each label."""

    tokens: list[int]
    parts: list[Span]
    labels: list[int]


def split_template(template: str) -> tuple[str, str, str]:
    """What stands before the item, between item and label, and after the label."""
    before, item, rest = template.partition("{item}")
    middle, label, after = rest.partition("{label}")
    if not (item and label and middle) or "{item}" in rest or "{label}" in after or "{label}" in before:
        raise SpecError(
            f"template {template!r}: must hold {{item}} and then {{label}}, once each, with something between them"
        )
    return before, middle, after


def tokens_of(text: str, offsets: list[Span], spans: Sequence[Span], what: str) -> list[Span]:
    """The tokens (from, to) that write each of these spans of characters, which follow each other."""
    found: list[Span] = []
    token = 0
    for start, end in spans:
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        first = token
        while token < len(offsets) and offsets[token][0] < end and offsets[token][1] > start:  # not a special one
            token += 1
        outside = text[offsets[first][0] : start] + text[end : offsets[token - 1][1]] if token > first else "-"
        if outside.strip():
            raise SpecError(
                f"{what} '{text[start:end]}' shares a token with what stands beside it: change the template "
                "(white space around items and labels helps)"
            )
        found.append((first, token))
    return found
