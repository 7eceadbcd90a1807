"""Texts with a class each: the common form of all corpora, our own small one, and users' files.

The readers of fetched corpora are in ``unplateau.data.corpora``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from unplateau.errors import DataError
from unplateau.tables import read_table


@dataclass(frozen=True)
class LabelledTexts:
    """``labels[i]`` is the index in ``label_names`` of the class of ``texts[i]``; every class has a text."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    name: str


def labelled(name: str, rows: Iterable[tuple[str, str]]) -> LabelledTexts:
    """From (text, label) pairs; classes are sorted by name. Raises DataError unless there are two classes or more."""
    pairs = list(rows)
    label_names = tuple(sorted({label for _, label in pairs}))
    if len(label_names) < 2:
        found = f"'{label_names[0]}' only" if label_names else "none"
        raise DataError(f"{name}: two classes or more are needed, found {found}")
    index = {label: place for place, label in enumerate(label_names)}
    return LabelledTexts(tuple(text for text, _ in pairs), tuple(index[label] for _, label in pairs), label_names, name)


@lru_cache(maxsize=1)
def shipped_texts() -> LabelledTexts:
    """Short sentences of our own about six subjects, which come with the package."""
    text = (files("unplateau.data") / "shipped" / "texts.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return labelled("shipped", ((sentence, label) for label, sentence in rows))


def texts_from_file(path: str | Path, *, text: str = "text", label: str = "label") -> LabelledTexts:
    """A user's texts: CSV, TSV or JSON lines with a column of texts and one of classes.

    Raises DataError if the file is missing, empty or not UTF-8, a column is missing, a cell of either is empty, or
    there is one class only.
    """
    table = read_table(path)
    texts, labels = table.column(text), table.column(label)
    for name, cells in ((text, texts), (label, labels)):
        if "" in cells:
            raise DataError(f"{path}: line {table.lines[cells.index('')]}: '{name}' is empty")
    return labelled(str(path), zip(texts, labels, strict=True))
