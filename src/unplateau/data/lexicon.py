"""Words with attributes, such as topic, first letter, length, frequency: what a task over single words is made of.

A :class:`Lexicon` is a value that can be hashed and compared, whatever its source.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from unplateau.errors import DataError, SpecError, suggest
from unplateau.tables import read_table

GROUPS = 4
"""Groups that letters, lengths and frequencies are put into: as many values as a topic has in the small tasks."""
TOPICS = ("animal", "food", "artifact", "person")

Key = TypeVar("Key", int, float, str)


@dataclass(frozen=True)
class Attribute:
    """``values`` (V,) are the names of its values, ``of`` (N,) the index of each word's value."""

    name: str
    values: tuple[str, ...]
    of: tuple[int, ...]


@dataclass(frozen=True)
class Lexicon:
    """N different words and their attributes; every value of an attribute is that of at least one word."""

    words: tuple[str, ...]
    attributes: tuple[Attribute, ...]

    def attribute(self, name: str) -> Attribute:
        """The attribute called ``name``. Raises SpecError, with the closest name, if there is none."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise SpecError(f"unknown attribute '{name}'{suggest(name, [one.name for one in self.attributes])}")


@dataclass(frozen=True)
class Entry:
    """A word before it is chosen; ``plural`` is empty where it has none, ``zipf`` None where it is not known."""

    word: str
    topic: str
    part_of_speech: str = "noun"
    plural: str = ""
    zipf: float | None = None
    number: str = "singular"


def shipped_lexicon(topics: Sequence[str] = TOPICS, per_topic: int | None = None, *, plurals: bool = False) -> Lexicon:
    """Words of our own choice that come with the package: topic, initial, length, part of speech, number.

    Args:
        topics: of animal, food, artifact, person, body, plant (nouns), action (verbs), quality (adjectives)
        per_topic: words of each topic, in the order of the list; default: as many as the smallest topic has
        plurals: every second noun that has a plural stands in it; this gives the attribute ``number``

    Raises SpecError for an unknown topic or more words than a topic has.
    """
    text = (files("unplateau.data") / "shipped" / "words.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    entries = (Entry(word, topic, part, plural) for word, topic, part, plural in rows)
    return chosen(entries, topics, per_topic, plurals=plurals, source="the shipped lexicon")


def lexicon_from_file(path: str | Path) -> Lexicon:
    """A user's words: TSV or CSV whose first line names the columns, ``word`` and one for each attribute.

    Raises DataError if the file is empty or not UTF-8, has no such columns, a word comes twice, a cell is empty, or an
    attribute has the same value for all words.
    """
    table = read_table(path)
    words = table.column("word")
    first: dict[str, int] = {}
    for word, line in zip(words, table.lines, strict=True):
        if first.setdefault(word, line) != line:
            raise DataError(f"{path}: line {line}: '{word}' is in line {first[word]} already")
    names = [name for name in table.columns if name != "word"]
    if not names:
        raise DataError(f"{path}: no attributes; each column besides 'word' is one")
    for name, cells in table.columns.items():
        if "" in cells:
            raise DataError(f"{path}: line {table.lines[cells.index('')]}: '{name}' is empty")
        if name != "word" and len(set(cells)) == 1:
            raise DataError(f"{path}: '{name}' is '{cells[0]}' for all words; an attribute needs two values or more")
    return Lexicon(words, tuple(named(name, table.columns[name]) for name in names))


def chosen(
    entries: Iterable[Entry], topics: Sequence[str], per_topic: int | None, *, plurals: bool, source: str
) -> Lexicon:
    """The first ``per_topic`` entries of each topic as a lexicon; attributes with one value only are left out."""
    by_topic: dict[str, list[Entry]] = {}
    for entry in entries:
        by_topic.setdefault(entry.topic, []).append(entry)
    if not topics or len(set(topics)) < len(topics):
        raise SpecError("topics: name each topic once, and at least one")
    for topic in topics:
        if topic not in by_topic:
            raise SpecError(f"unknown topic '{topic}'{suggest(topic, by_topic)}")
        if per_topic is not None and not 0 < per_topic <= len(by_topic[topic]):
            raise SpecError(f"per_topic = {per_topic}: {source} has {len(by_topic[topic])} words of topic '{topic}'")
    share = min(len(by_topic[topic]) for topic in topics) if per_topic is None else per_topic
    kept = [pluralised(by_topic[topic][:share]) if plurals else by_topic[topic][:share] for topic in topics]
    return lexicon_of([entry for topic in kept for entry in topic])


def pluralised(entries: Sequence[Entry]) -> list[Entry]:
    """Every second entry that has a plural of 3 to 12 letters stands in it, unless another word is spelt the same."""
    taken = {entry.word for entry in entries}
    can = [3 <= len(entry.plural) <= 12 and entry.plural not in taken for entry in entries]
    turn = np.cumsum(can) % 2 == 0
    return [
        replace(entry, word=entry.plural, number="plural") if able and now else entry
        for entry, able, now in zip(entries, can, turn, strict=True)
    ]


def lexicon_of(entries: Sequence[Entry]) -> Lexicon:
    """All attributes that these words differ in. Frequency is that of the singular."""
    words = tuple(entry.word for entry in entries)
    attributes = [
        named("topic", [entry.topic for entry in entries]),
        grouped("initial", [word[0] for word in words], _span),
        grouped("length", [len(word) for word in words], lambda low, high: f"{_span(low, high)} letters"),
        named("part of speech", [entry.part_of_speech for entry in entries]),
    ]
    if all(entry.part_of_speech == "noun" for entry in entries):  # other words have no number
        attributes.append(named("number", [entry.number for entry in entries]))
    if all(entry.zipf is not None for entry in entries):
        zipfs = [entry.zipf or 0.0 for entry in entries]
        attributes.append(grouped("frequency", zipfs, lambda low, high: f"Zipf {low:.2f}-{high:.2f}"))
    return Lexicon(words, tuple(attribute for attribute in attributes if len(attribute.values) > 1))


def named(name: str, cells: Sequence[str]) -> Attribute:
    """An attribute whose values are the cells themselves, in the order in which they first come."""
    values = tuple(dict.fromkeys(cells))
    index = {value: place for place, value in enumerate(values)}
    return Attribute(name, values, tuple(index[cell] for cell in cells))


def grouped(name: str, keys: Sequence[Key], label: Callable[[Key, Key], str], n_groups: int = GROUPS) -> Attribute:
    """An attribute of at most ``n_groups`` ranges of keys with about equally many words; equal keys stay together."""
    count = Counter(keys)
    ordered = sorted(count)
    bounds = _even_cuts([count[key] for key in ordered], min(n_groups, len(ordered)))
    ranges = [ordered[start:stop] for start, stop in pairwise(bounds)]
    group = {key: place for place, one in enumerate(ranges) for key in one}
    return Attribute(name, tuple(label(one[0], one[-1]) for one in ranges), tuple(group[key] for key in keys))


def _even_cuts(counts: Sequence[int], n_groups: int) -> list[int]:
    """Bounds of the ``n_groups`` runs of ``counts`` whose sums have the least sum of squares."""
    total = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    square = np.where(total > total[:, None], (total - total[:, None]) ** 2, np.inf)  # [start, stop]
    cost = np.where(total == 0, 0.0, np.inf)
    begins = []
    for _ in range(n_groups):
        costs = cost[:, None] + square
        begins.append(costs.argmin(axis=0))
        cost = costs.min(axis=0)
    bounds = [len(counts)]
    for begin in reversed(begins):
        bounds.append(int(begin[bounds[-1]]))
    return bounds[::-1]


def _span(low: object, high: object) -> str:
    return f"{low}" if low == high else f"{low}-{high}"
