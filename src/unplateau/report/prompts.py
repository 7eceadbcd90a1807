"""Two real prompts as people can see them: items, labels, and what the model guessed before and after its escape.

They come from ``prompts.npz`` of a run and from the guesses in the histories.
"""

import base64
import io
import logging
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from unplateau import store
from unplateau.analysis.runs import Groups, RunSummary
from unplateau.damage import DAMAGE, reason
from unplateau.errors import RunDirectoryError
from unplateau.files import open_regular
from unplateau.report.style import printable, spoken
from unplateau.store import RunRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One item of a prompt: its picture as a data URI or its text (empty if it has none), its factors, its label."""

    picture: str
    text: str
    words: str
    label: str


@dataclass(frozen=True)
class Guesses:
    """One row: the labels that a strategy guessed at some step, and which of them are right."""

    strategy: str
    when: str
    labels: tuple[tuple[str, bool], ...]

    @property
    def n_right(self) -> int:
        """How many are right."""
        return sum(right for _, right in self.labels)


@dataclass(frozen=True)
class Prompt:
    """One prompt, the rule that it hides, and the rows of guesses on it."""

    rule: str
    items: tuple[Item, ...]
    guesses: tuple[Guesses, ...]

    @property
    def by_strategy(self) -> list[tuple[str, list[Guesses]]]:
        """The rows of each strategy, in the order of the strategies."""
        return [(name, list(rows)) for name, rows in groupby(self.guesses, key=lambda row: row.strategy)]

    @property
    def in_sentences(self) -> bool:
        """Whether its texts are too long for a narrow column."""
        return max(len(item.text) for item in self.items) > 40

    @property
    def in_words(self) -> bool:
        """Whether its items are texts."""
        return not any(item.picture for item in self.items)


def shown_prompts(groups: Groups) -> list[Prompt]:
    """The prompts that all runs of the first task were shown; empty where none were kept or no guesses recorded.

    A file of prompts that is damaged is named in a warning, and that of another strategy is taken.
    """
    runs = {name: run for name, members in groups.items() if (run := _chosen(members)) is not None}
    for keeper in (run.record for run in runs.values() if (run.record.path / store.PROMPTS).exists()):
        alike = {name: run for name, run in runs.items() if run.record.spec.get("task") == keeper.spec.get("task")}
        try:
            data = _read(keeper)
            return [_prompt(keeper, data, number, alike) for number in range(len(data["labels"]))]
        except DAMAGE as error:
            logger.warning("%s: %s: its prompts are not shown", keeper.path / store.PROMPTS, reason(keeper.path, error))
    return []


def _chosen(runs: Sequence[RunSummary]) -> RunSummary | None:
    """The first run with guesses, one that escaped if there is one."""
    having = [run for run in runs if "guesses" in run.columns]
    return next((run for run in having if run.escape_step is not None), having[0] if having else None)


def _read(record: RunRecord) -> dict[str, NDArray[Any]]:
    path = record.path / store.PROMPTS
    try:
        with open_regular(path) as raw, np.load(raw, allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
            wrong = _wrong(data)
    except (*DAMAGE, EOFError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise RunDirectoryError("damaged, or not a file of prompts") from error
    if wrong:
        raise RunDirectoryError(f"{wrong} do not fit together")
    return data


def _wrong(data: dict[str, NDArray[Any]]) -> str:
    """Which arrays are not what they should be, in words; KeyError if one is missing."""
    shape = data["labels"].shape
    seen = [name for name in ("images", "texts") if name in data]
    fits = bool(seen) and len(data["factors"]) == len(data["hidden_factor"]) == shape[0]
    if not fits or any(data[name].shape[:2] != shape for name in seen):
        return f"{', '.join(seen) or 'images'}, labels and factors"
    if len(data.get("rules", data["labels"])) != shape[0]:
        return "rules and labels"
    if "images" in data and (data["images"].ndim != 5 or data["images"].dtype != np.uint8):
        return "images and pixels"
    return "" if data["labels"].max() < len(data["label_names"]) else "labels and their names"


def _prompt(record: RunRecord, data: dict[str, NDArray[Any]], number: int, runs: dict[str, RunSummary]) -> Prompt:
    label_names = data["label_names"].tolist()
    labels = data["labels"][number].tolist()
    items = tuple(_item(record, data, number, place, label_names[label]) for place, label in enumerate(labels))
    rows = tuple(row for name, run in runs.items() for row in _rows(name, run, number, labels, label_names))
    rule = str(data["rules"][number]) if "rules" in data else _rule(record, int(data["hidden_factor"][number]))
    return Prompt(printable(rule, 240), items, rows)


def _item(record: RunRecord, data: dict[str, NDArray[Any]], number: int, place: int, label: str) -> Item:
    factors = data["factors"][number]
    per_item = len(factors) // data["labels"].shape[1]  # above 1 where every word of an item has its own factors
    names = record.task["factor_names"]
    values = factors[place].tolist() if per_item == 1 else []
    words = ", ".join(f"{spoken(name)} {value}" for name, value in zip(names, values, strict=False))
    return Item(
        data_uri(data["images"][number, place]) if "images" in data else "",
        printable(str(data["texts"][number, place]), 240) if "texts" in data else "",
        f"item {place + 1}: {words}" if words else f"item {place + 1}",
        printable(label),
    )


def _rule(record: RunRecord, hidden: int) -> str:
    """What the prompt hides, as a sentence."""
    names = record.task.get("hidden_names") or ()
    if names:
        return f"The answer is the word whose {spoken(record.task['factor_names'][0])} is {spoken(names[hidden])}."
    return f"The label follows the {spoken(record.task['factor_names'][hidden])}."


def _rows(name: str, run: RunSummary, number: int, labels: Sequence[int], label_names: Sequence[str]) -> list[Guesses]:
    """The last guesses before the escape and those at the end; without an escape, the first and the last."""
    steps, guesses = (column.astype(int).tolist() for column in run.columns["guesses"])
    before = [index for index, step in enumerate(steps) if run.escape_step is not None and step < run.escape_step]
    first, last = (before[-1] if before else 0), len(steps) - 1
    words = "before escape" if before else "at the start"
    chosen = {first: words, last: "at the end"}
    return [
        Guesses(
            printable(name),
            f"{when}, step {steps[index]:,} (seed {run.seed})",
            tuple(
                (printable(label_names[guess]), guess == label)
                for guess, label in zip(guesses[index][number], labels, strict=True)
            ),
        )
        for index, when in chosen.items()
    ]


def data_uri(image: NDArray[np.uint8]) -> str:
    """A picture (height, width, 3) as a PNG inside a URI."""
    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
