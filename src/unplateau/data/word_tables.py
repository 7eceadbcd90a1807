"""What is known of single words: frequencies (wordfreq, Speer 2022), inflections (lemminflect), analogies (gensim).

The tables are read out of the packages without importing them; that of frequencies is a msgpack list of lists, of which
we read the few types that occur in it.
"""

import io
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from unplateau.data.archives import read_member
from unplateau.data.packages import Package
from unplateau.errors import DataError

Value = int | str | list["Value"] | dict[str, "Value"]
MEMBER = "wordfreq/data/large_en.msgpack.gz"


def zipf_frequencies(package: Package | str = "wordfreq") -> dict[str, float]:
    """Zipf frequency of each word: log10 of its occurrences in a billion words.

    Raises DataError if the archive is missing or not laid out as expected.
    """
    try:
        table = unpack(io.BytesIO(read_member(package, MEMBER)))
        header, *bands = table if isinstance(table, list) else [table]
        if header != {"format": "cB", "version": 1}:
            raise ValueError("unknown header")
        # List i holds the words of frequency 10 ** (-i / 100); 9 is the Zipf frequency of a word that is every word.
        return {str(word): 9.0 - i / 100 for i, band in enumerate(bands) for word in _list(band)}
    except (ValueError, IndexError) as error:
        raise DataError(f"{MEMBER}: not a frequency table of wordfreq 3 ({error})") from error


def _list(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise ValueError("a band is not a list")
    return value


def unpack(data: BinaryIO) -> Value:
    """The next msgpack value: a small number, a map, a list or a string. Raises ValueError, IndexError."""
    kind = _next(data, 1)[0]
    if kind < 0x80:
        return kind
    if kind < 0x90:
        return {str(unpack(data)): unpack(data) for _ in range(kind & 0x0F)}
    if kind < 0xA0:
        return [unpack(data) for _ in range(kind & 0x0F)]
    if kind < 0xC0:
        return _next(data, kind & 0x1F).decode("utf-8")
    if kind not in _WIDTHS:
        raise ValueError(f"msgpack type 0x{kind:02x} at byte {data.tell() - 1}")
    size = int.from_bytes(_next(data, _WIDTHS[kind]), "big")
    return _next(data, size).decode("utf-8") if kind < 0xDC else [unpack(data) for _ in range(size)]


def _next(data: BinaryIO, size: int) -> bytes:
    found = data.read(size)
    if len(found) < size:
        raise IndexError("cut off")
    return found


_WIDTHS = {0xD9: 1, 0xDA: 2, 0xDC: 2, 0xDD: 4}
"""Bytes of the size that stands before longer strings (0xD9, 0xDA) and lists."""
FORMS = {
    "noun": ("NNS",),
    "adj": ("JJR", "JJS"),
    "adv": ("RBR", "RBS"),
    "verb": ("VBD", "VBN", "VBG", "VBZ"),
}
"""Tags of the Penn treebank for the columns of lemminflect's table, by part of speech."""


class Analogy(NamedTuple):
    """``a`` is to ``b`` as ``c`` is to ``d``: Athens, Greece, Oslo, Norway."""

    relation: str
    a: str
    b: str
    c: str
    d: str


class Inflection(NamedTuple):
    """``form`` is a form of ``lemma``; ``tag`` (Penn treebank) says which: mouse, NNS, mice."""

    lemma: str
    tag: str
    form: str


def analogies(package: Package | str = "analogies") -> tuple[Analogy, ...]:
    """All questions in the archive's order. Raises DataError if it is missing or not laid out as expected."""
    member = "gensim/test/test_data/questions-words.txt"
    found, relation = [], ""
    for line in read_member(package, member).decode("utf-8").splitlines():
        words = line.split()
        if line.startswith(":"):
            relation = line[1:].strip()
        elif len(words) != 4:
            raise DataError(f"{member}: '{line}' is not four words")
        else:
            found.append(Analogy(relation, *words))
    return tuple(found)


def inflections(package: Package | str = "inflections") -> tuple[Inflection, ...]:
    """All forms of the table, the usual spelling first. Raises DataError if the archive is missing."""
    text = read_member(package, "lemminflect/resources/infl_lu.csv.gz").decode("utf-8")
    return tuple(form for line in text.splitlines() for form in _forms(line))


def _forms(line: str) -> Iterator[Inflection]:
    lemma, part, *columns = line.split(",")
    for tag, spellings in zip(FORMS.get(part, ()), columns, strict=False):  # later columns may be left out
        yield from (Inflection(lemma, tag, form) for form in spellings.split("/") if form)


@lru_cache(maxsize=1)
def plurals_of() -> dict[str, str]:
    """The first plural of each noun in the table that has one of its own: mouse -> mice, but not sheep -> sheep."""
    found: dict[str, str] = {}
    for lemma, tag, form in inflections():
        if tag == "NNS" and form != lemma:
            found.setdefault(lemma, form)
    return found
