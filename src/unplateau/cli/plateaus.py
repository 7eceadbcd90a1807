"""The command that reads logs: ``plateaus``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from unplateau.cli.arguments import refuse_unwritable
from unplateau.cli.console import is_count, print_json, warn
from unplateau.errors import RunDirectoryError, SpecError
from unplateau.terminal import one_line

if TYPE_CHECKING:
    from unplateau.logs import Curve
    from unplateau.logs.stairs import Drop, Event
    from unplateau.plateau.detect import Plateau


def plateaus(  # noqa: PLR0913 (an option each)
    files: Annotated[tuple[Path, ...], Positional, arg(metavar="LOG [LOG ...]")],
    /,
    *,
    value: Annotated[tuple[str, ...], arg(metavar="COL"), UseAppendAction] = (),
    step: Annotated[str | None, arg(metavar="COL|row")] = None,
    direction: Literal["min", "max"] | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
    smoothing: Annotated[float | None, arg(metavar="WEIGHT")] = None,
    by: Annotated[str | None, arg(metavar="COL[=CELL]")] = None,
    segment: Annotated[str | None, arg(metavar="N|all")] = None,
    repeats: Literal["last", "mean"] | None = None,
    epoch: Annotated[str | None, arg(metavar="COL")] = None,
    lr: Annotated[str | None, arg(metavar="COL")] = None,
    plot: Annotated[Path | None, arg(metavar="FILE.(png|svg|pdf|html)")] = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Finds the learning plateaus of a curve in any log: flat parts after which learning goes on, or that it stops in.

    A log is a table (CSV, TSV, spaces; with or without a header), JSON (lines, an array of rows, an object of columns,
    transformers' trainer_state.json), text that a program has printed ("iter 250: loss 4.1", "loss=4.1", "loss: 4.1"),
    TensorBoard's event files, any of these compressed with gzip, a run directory, or - for standard input. Columns
    that are not named are found by name; what was chosen, left out or put in order is said on standard error.

    Prints one line for each plateau, or "no plateau found"; of several curves each line begins with the curve. A
    plateau whose end coincides with a new epoch, another learning rate or a resume says so, and so does a drop that
    comes with one: such stairs are no learning that waited.

    With --json an object: file, format, value, step (null: the number of the row), direction, part (of a file with
    several runs), points, notes (all that was said), plateaus, drops (step, by, with, words). Each plateau has start,
    end, level, ended (false: the log stops on it), interval (low, high) of the end, where an open high end is null, and
    coincides (step, with, words). A log that looks as if it was smoothed exponentially, which delays every end, also
    has if_smoothed: weight (of the past), end and interval without that. Of several curves it is {"curves": [...]}.

    Args:
        files: logs; - is standard input
        value: column of the curve, such as a loss; may be given more than once
        step: column of the steps; "row" counts rows
        direction: min if learning lowers the curve (a loss), max if it raises it (an accuracy); default: by the name
        floor: value of a model that has not learned, in the units of the curve (such as ln 4 for four labels)
        ceiling: best value that can be reached; a run directory of ours knows both
        smoothing: undo an exponential moving average of this weight (0.9 if TensorBoard's or W&B's smoothing was 0.9)
        by: column that tells the runs in a file apart, such as seed; seed=3 takes one of them
        segment: the number of one run, where steps start again in a file; "all" takes each
        repeats: which value counts where most steps have several rows
        epoch: column of epochs; default: by the name
        lr: column of the learning rate; default: by the name
        plot: also draw all curves with their plateaus into this file
        force: draw also into a file that is there and no earlier picture of plateaus
        json: print JSON instead of words
    """
    from unplateau.logs import Wanted, read_curves, read_log  # noqa: PLC0415 (numpy)

    if not files:
        raise SpecError("plateaus: LOG is missing")
    if plot is not None:
        from unplateau.outputs import demand_replaceable, marked  # noqa: PLC0415 (numpy)
        from unplateau.report.plateau_plot import format_of  # noqa: PLC0415 (matplotlib)

        demand_replaceable(plot, marked(format_of(plot)), force=force)
        refuse_unwritable(plot.parent)
    wanted = Wanted(value, step, by, _segment(segment), repeats, epoch, lr, direction)
    curves = [(file, curve) for file in files for curve in read_curves(read_log(file), wanted)]
    found = [_found(file, _raw(curve, smoothing), floor, ceiling) for file, curve in curves]
    for line in dict.fromkeys(line for one in found for line in one.said):
        warn(line)
    if plot is not None:
        _plot(found, plot, force=force)
    if json:
        print_json(found[0].as_dict() if len(found) == 1 else {"curves": [one.as_dict() for one in found]})
    else:
        print("\n".join(line for one in found for line in one.lines(named=len(found) > 1)))


def _segment(text: str | None) -> int | Literal["all"] | None:
    if text is None or text == "all":
        return None if text is None else "all"
    if not is_count(text):
        raise SpecError(f"--segment: a number from 1 or 'all', got '{text}'")
    return int(text)


@dataclass(frozen=True)
class _Found:
    """A curve with its plateaus, what the end of each coincides with, and the drops that come with something else."""

    curve: Curve
    plateaus: list[Plateau]
    coincides: list[list[Event]]
    drops: list[Drop]

    @property
    def name(self) -> str:
        """File, column and run, as far as they tell it apart."""
        return " ".join(part for part in (Path(self.curve.source).name, self.curve.value, self.curve.part) if part)

    @property
    def said(self) -> list[str]:
        """What was chosen and done, for people."""
        part = f"{self.curve.part}: " if self.curve.part else ""
        told = {event for events in self.coincides for event in events}
        other = [f"'{self.curve.value}' {drop}" for drop in self.drops if drop.event not in told]
        chosen = [f"{self.curve.source}: {self.curve.guessed}"] if self.curve.guessed else []
        return chosen + [f"{self.curve.source}: {part}{note}" for note in (*self.curve.notes, *other)]

    def sentences(self) -> list[str]:
        """One for each plateau."""
        flat = [
            f"{plateau}{''.join(f'; there {event.words}' for event in events)}"
            for plateau, events in zip(self.plateaus, self.coincides, strict=True)
        ]
        return flat or ["no plateau found"]

    def lines(self, *, named: bool) -> list[str]:
        """The sentences, with the curve before each."""
        return [one_line(f"{self.name}: {line}" if named else line) for line in self.sentences()]

    def as_dict(self) -> dict[str, Any]:
        """As JSON data."""
        curve = self.curve
        flat = [
            plateau.as_dict() | {"coincides": [event.as_dict() for event in events]}
            for plateau, events in zip(self.plateaus, self.coincides, strict=True)
        ]
        return {
            "file": curve.source,
            "format": curve.form,
            "value": curve.value,
            "step": curve.step,
            "direction": curve.direction,
            "part": curve.part or None,
            "points": len(curve.steps),
            "notes": [note for note in (curve.guessed, *curve.notes) if note],
            "plateaus": flat,
            "drops": [drop.as_dict() for drop in self.drops],
        }


def _raw(curve: Curve, smoothing: float | None) -> Curve:
    """The curve with the average undone that it is said to be."""
    if smoothing is None:
        return curve
    import numpy as np  # noqa: PLC0415

    from unplateau.plateau.smoothing import undone  # noqa: PLC0415 (numpy)

    note = f"smoothing by {smoothing:g} undone, from row to row"
    return replace(curve, values=undone(np.asarray(curve.values), smoothing).tolist(), notes=(*curve.notes, note))


def _found(file: Path, curve: Curve, floor: float | None, ceiling: float | None) -> _Found:
    from unplateau.logs.stairs import coincident, drops  # noqa: PLC0415 (numpy)
    from unplateau.plateau.detect import find_plateaus  # noqa: PLC0415 (scipy)

    if floor is None and ceiling is None and (levels := _levels(file, curve.value)) is not None:
        floor, ceiling = levels
        note = f"floor {floor:.4g} and ceiling {ceiling:.4g} are those of this run"
        curve = replace(curve, notes=(*curve.notes, note))
    flat = find_plateaus(curve.steps, curve.values, floor=floor, ceiling=ceiling, direction=curve.direction)
    return _Found(
        curve,
        flat,
        [coincident(plateau, curve.events, curve.steps) for plateau in flat],
        drops(curve.steps, curve.values, curve.events, curve.direction),
    )


def _levels(file: Path, value: str) -> tuple[float, float] | None:
    """Floor and ceiling of a run of our own, which knows them; None for other logs and columns."""
    measures: dict[str, Literal["loss", "accuracy"]] = {"loss": "loss", "accuracy": "accuracy"}
    with suppress(RunDirectoryError, SpecError):
        if file.is_dir() and value in measures:
            from unplateau.store import load_run  # noqa: PLC0415 (pydantic)

            return load_run(file).floors.levels(measures[value])
    return None


def _plot(found: Sequence[_Found], path: Path, *, force: bool) -> None:
    import numpy as np  # noqa: PLC0415

    from unplateau.report.plateau_plot import PlottedCurve, save_plateaus  # noqa: PLC0415 (matplotlib)

    drawn = []
    for one in found:
        events = dict.fromkeys(
            [*(event for each in one.coincides for event in each), *(drop.event for drop in one.drops)]
        )
        drawn.append(
            PlottedCurve(
                np.asarray(one.curve.steps),
                np.asarray(one.curve.values),
                one.plateaus,
                one.name,
                one.curve.step or "row",
                one.curve.value,
                [(event.step, event.label) for event in events],
                one.said,
            )
        )
    warn(f"{save_plateaus(drawn, path, force=force)} written")
