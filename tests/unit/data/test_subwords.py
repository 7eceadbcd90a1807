"""Byte-pair pieces: the same corpus gives the same pieces, and text survives the round trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.data.subwords import train_subwords
from unplateau.data.texts import shipped_texts
from unplateau.errors import DataError

TEXTS = shipped_texts().texts
PIECES = train_subwords(TEXTS, 400)
WORDS = sorted({word for text in TEXTS for word in text.split()})


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_text_comes_back(words: list[str]) -> None:
    (ids,) = PIECES.encode([" ".join(words)])
    assert PIECES.decode(ids) == " ".join(words)
    assert all(0 <= piece < PIECES.size for piece in ids)


def test_equal_corpora_give_equal_pieces_and_more_pieces_write_shorter() -> None:
    assert train_subwords(TEXTS, 400).encode(TEXTS) == PIECES.encode(TEXTS)
    lengths = [sum(map(len, train_subwords(TEXTS, size).encode(TEXTS))) for size in (100, 400, 800)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]


@pytest.mark.parametrize(("texts", "size", "message"), [([" "], 100, "no text"), (["abcdef"], 6, "too few")])
def test_corpora_that_cannot_work_are_refused(texts: list[str], size: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train_subwords(texts, size)
