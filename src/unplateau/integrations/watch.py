"""The log of somebody else's training: losses, scores where they are due, and the plateaus so far."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from unplateau.files import RowFile, read_rows
from unplateau.history import History
from unplateau.outputs import demand_replaceable, rows_with
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.store import METRICS


class Measurable(Protocol):
    """Anything that can be measured while a model trains."""

    def measure(self) -> Mapping[str, Any]:
        """Columns of a row: plain JSON values."""


class Watch:
    """Writes what a training loop reports, and scores every ``every`` steps, to a file of JSON lines.

    ``file``: such as ``metrics.jsonl``; ``unplateau plateaus FILE --value loss`` reads it. ``scores``: None for losses
    alone. ``every``: steps between two looks, 0 for never. Rows of an earlier run in the same file are kept up to the
    step of the first new row and cut off there (see ``begin``), as resuming from a checkpoint asks for.
    """

    def __init__(self, file: str | Path, scores: Measurable | None = None, *, every: int = 100) -> None:
        self.path, self.scores, self.every = Path(file), scores, every
        self._file: RowFile | None = None
        self._looked: int | None = None

    @property
    def rows(self) -> History:
        """All rows so far."""
        return History(read_rows(self.path))

    def begin(self, step: int) -> None:
        """Training goes on after so many updates: rows of later steps in the file are cut off, at 0 all rows.

        Raises OutputError if the file holds anything but rows as they are written here.
        """
        demand_replaceable(self.path, rows_with("step", written_here=True), force=None)
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        kept = 0
        for row, line in zip(read_rows(self.path), lines, strict=False):  # a last line without an end is no row
            if step <= 0 or row["step"] > step:
                break
            kept += len(line)
            self._looked = row["step"] if "cut" in row else self._looked
        self._file = RowFile(self.path, keep_bytes=kept)

    def record(self, step: int, *, look: bool | None = None, **values: float | None) -> dict[str, Any]:
        """Appends a row of ``values`` (such as ``loss=``), with scores where they are due, and returns it.

        ``step``: updates made so far. ``look``: whether to score; None: at the first row and at the first one after
        each multiple of ``every``. A value that is NaN or infinite is written as null.
        """
        if self._file is None:
            self.begin(step - 1)
        assert self._file is not None
        row: dict[str, Any] = {"step": step, **{name: _finite(value) for name, value in values.items()}}
        if self.scores is not None and (self._due(step) if look is None else look) and self._looked != step:
            row |= self.scores.measure()
            self._looked = step
        self._file.append(row)
        return row

    def plateaus(
        self,
        value: str = "loss",
        *,
        floor: float | None = None,
        ceiling: float | None = None,
        direction: Literal["min", "max"] = "min",
    ) -> list[Plateau]:
        """The plateaus of a column so far, as :func:`~unplateau.find_plateaus` finds them; none with few rows."""
        return find_plateaus(*self.rows.curve(value), floor=floor, ceiling=ceiling, direction=direction)

    def _due(self, step: int) -> bool:
        return bool(self.every) and (self._looked is None or step // self.every > self._looked // self.every)


class Recorder:
    """What the callbacks of trainers share: a watch that opens its file when training begins.

    ``scores``: such as ``TokenScores`` or ``TaskScores``, or a function of the model that makes one when training
    begins; None for losses alone. ``every``: steps between two looks. ``file``: where to write; None:
    ``metrics.jsonl`` in the trainer's own folder.
    """

    def __init__(
        self,
        scores: Measurable | Callable[[Any], Measurable] | None = None,
        *,
        every: int = 100,
        file: str | Path | None = None,
    ) -> None:
        self.scores, self.every, self.file = scores, every, file
        self.watch: Watch | None = None

    def plateaus(self) -> list[Plateau]:
        """The plateaus of the recorded loss so far."""
        return [] if self.watch is None else self.watch.plateaus()

    def open(self, folder: str | Path, step: int, model: Any) -> None:
        """Opens the file; a first look before the first step."""
        scores = self.scores(model) if callable(self.scores) else self.scores
        self.watch = Watch(self.file or Path(folder) / METRICS, scores, every=self.every)
        self.watch.begin(step)
        if step == 0 and scores is not None and self.every:
            self.watch.record(0, look=True)


def _finite(value: float | None) -> float | None:
    number = None if value is None else float(value)
    return number if number is not None and math.isfinite(number) else None
