"""Two real prompts as people can see them: pictures, labels, and what the model guessed before and after its escape.

What enters: ``prompts.npz`` of a run and the guesses in the histories. What leaves: pictures as data URIs, and rows.
"""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from unplateau import store
from unplateau.analysis.runs import RunSummary
from unplateau.errors import RunDirectoryError
from unplateau.report.contents import Groups
from unplateau.report.style import printable, spoken
from unplateau.store import RunRecord


@dataclass(frozen=True)
class Item:
    """One item of a prompt: its picture as a data URI, in words, and its label."""

    picture: str
    words: str
    label: int


@dataclass(frozen=True)
class Guesses:
    """One row: the labels that a strategy guessed at some step, and which of them are right."""

    strategy: str
    when: str
    labels: tuple[tuple[int, bool], ...]

    @property
    def n_right(self) -> int:
        """How many are right."""
        return sum(right for _, right in self.labels)


@dataclass(frozen=True)
class Prompt:
    """One prompt and the rows of guesses on it."""

    hidden_factor: str
    items: tuple[Item, ...]
    guesses: tuple[Guesses, ...]


def shown_prompts(groups: Groups) -> list[Prompt]:
    """The prompts that all runs were shown; empty where none were kept or no guesses recorded."""
    runs = {name: run for name, members in groups.items() if (run := _chosen(members)) is not None}
    keeper = next((run.record for run in runs.values() if (run.record.path / store.PROMPTS).exists()), None)
    if keeper is None:
        return []
    data = _read(keeper)
    return [_prompt(keeper, data, number, runs) for number in range(len(data["labels"]))]


def _chosen(runs: Sequence[RunSummary]) -> RunSummary | None:
    """The first run with guesses, one that escaped if there is one."""
    having = [run for run in runs if run.record.history.column("guesses")[0]]
    return next((run for run in having if run.escape_step is not None), having[0] if having else None)


def _read(record: RunRecord) -> dict[str, NDArray[Any]]:
    path = record.path / store.PROMPTS
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            data = {name: file[name] for name in ("images", "labels", "hidden_factor", "factors")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunDirectoryError(f"{path}: damaged, or not a file of prompts; remove it to report without") from error
    shapes = data["images"].shape[:2], data["labels"].shape, data["factors"].shape[:2]
    if data["images"].ndim != 5 or data["images"].dtype != np.uint8 or len(set(shapes)) != 1:
        raise RunDirectoryError(f"{path}: images, labels and factors do not fit together; remove it to report without")
    return data


def _prompt(record: RunRecord, data: dict[str, NDArray[Any]], number: int, runs: dict[str, RunSummary]) -> Prompt:
    names, labels = record.task["factor_names"], data["labels"][number].tolist()
    items = tuple(
        Item(
            data_uri(image),
            f"item {place}: " + ", ".join(f"{spoken(name)} {value}" for name, value in zip(names, values, strict=True)),
            label,
        )
        for place, (image, values, label) in enumerate(
            zip(data["images"][number], data["factors"][number].tolist(), labels, strict=True), start=1
        )
    )
    rows = tuple(row for name, run in runs.items() for row in _rows(name, run, number, labels))
    return Prompt(spoken(names[int(data["hidden_factor"][number])]), items, rows)


def _rows(name: str, run: RunSummary, number: int, labels: Sequence[int]) -> list[Guesses]:
    """The last guesses before the escape and those at the end; without an escape, the first and the last."""
    steps, guesses = run.record.history.column("guesses")
    before = [index for index, step in enumerate(steps) if run.escape_step is not None and step < run.escape_step]
    first, last = (before[-1] if before else 0), len(steps) - 1
    words = "before escape" if before else "at the start"
    chosen = [(first, words), (last, "at the end")] if first != last else [(last, "at the end")]
    return [
        Guesses(
            printable(name),
            f"{when}, step {steps[index]:,} (seed {run.seed})",
            tuple((guess, guess == label) for guess, label in zip(guesses[index][number], labels, strict=True)),
        )
        for index, when in chosen
    ]


def data_uri(image: NDArray[np.uint8]) -> str:
    """A picture (height, width, 3) as a PNG inside a URI."""
    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
