"""Pairs and forms of words: analogies (Mikolov et al. 2013) and inflections (the SPECIALIST lexicon, by lemminflect).

What enters: archives in the cache. What leaves: tuples of strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from unplateau.data.archives import read_member
from unplateau.data.packages import Package
from unplateau.errors import DataError

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
        if line.startswith(":"):
            relation = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise DataError(f"{member}: '{line}' is not four words")
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
