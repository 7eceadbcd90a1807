"""The Brown corpus (Francis and Kucera 1964): American English of 1961, tagged with parts of speech.

What enters: the archive in the cache. What leaves: its sentences as tokens with tags, or as text with their genre.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern

from unplateau.data.archives import read_members
from unplateau.data.packages import Package
from unplateau.data.texts import LabelledTexts, labelled
from unplateau.errors import DataError

FILE = re.compile(r"package/c[a-r]\d\d")
GENRES = "package/cats.txt"
OPENING, CLOSING = {"(", "[", "{", "``", "$"}, re.compile(r"[.,;:?!)\]}%]+|''")


@dataclass(frozen=True)
class TaggedSentences:
    """Sentence ``i`` has the tokens ``words[i]``, as many tags (Brown's set, such as ``nn``, ``vbd``), and a genre."""

    words: tuple[tuple[str, ...], ...]
    tags: tuple[tuple[str, ...], ...]
    genres: tuple[str, ...]


def brown_tagged(package: Package | str = "brown") -> TaggedSentences:
    """All sentences in the order of the files. Raises DataError if the archive is missing or damaged."""
    found = dict(sorted(read_members(package, lambda name: name == GENRES or FILE.fullmatch(name) is not None)))
    genre_of = dict(line.split() for line in found.pop(GENRES, b"").decode().splitlines() if line.strip())
    words, tags, genres = [], [], []
    for name, data in found.items():
        genre = genre_of.get(name.rpartition("/")[2])
        if genre is None:
            raise DataError(f"{name}: no genre in {GENRES}")
        for line in filter(str.strip, data.decode("latin-1").splitlines()):
            tokens = [token.rpartition("/") for token in line.split()]
            words.append(tuple(intern(word) for word, _, _ in tokens))
            tags.append(tuple(intern(tag) for _, _, tag in tokens))
            genres.append(genre)
    return TaggedSentences(tuple(words), tuple(tags), tuple(genres))


def brown_genres(package: Package | str = "brown") -> LabelledTexts:
    """Sentences as running text, each with the genre of its file: adventure, belles_lettres, editorial ... (15)."""
    corpus = brown_tagged(package)
    return labelled("brown-genres", zip(map(running_text, corpus.words), corpus.genres, strict=True))


def running_text(tokens: Sequence[str]) -> str:
    """Tokens as they are printed: no space before commas and behind opening brackets, plain double quotes."""
    text, glued = "", True
    for token in tokens:
        if token == "." and text.endswith("."):
            continue  # the full stop of an abbreviation at the end of a sentence is tagged once more
        closes = CLOSING.fullmatch(token) is not None
        text += ("" if glued or closes else " ") + {"``": '"', "''": '"'}.get(token, token)
        glued = token in OPENING
    return text
