"""``unplateau plateaus``: where a training log is flat, and until when. Any log, not only ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from unplateau.cli.console import print_json

Log = Annotated[Path, Positional, arg(metavar="FILE.(csv|jsonl)")]


def plateaus(
    file: Log,
    /,
    *,
    value: Annotated[str, arg(metavar="COL")],
    step: Annotated[str, arg(metavar="COL")] = "step",
    floor: float | None = None,
    ceiling: float | None = None,
    direction: Literal["min", "max"] = "min",
    json: bool = False,
) -> None:
    """Finds the learning plateaus of a curve: flat parts after which learning goes on, or that it stops in.

    Prints one line for each, or "no plateau found". With --json a list of start, end, level, ended (false: the log
    stops on it) and interval (low, high) of the end; an open high end is null.

    Args:
        file: a CSV file with a header, or a file of JSON lines
        value: column of the curve, such as a loss
        step: column of the steps
        floor: value of a model that has not learned, in the units of the curve (such as ln 4 for four labels)
        ceiling: best value that can be reached
        direction: min if learning lowers the curve (a loss), max if it raises it (an accuracy)
        json: print JSON instead of words
    """
    from unplateau.plateau.detect import find_plateaus  # noqa: PLC0415 (scipy)
    from unplateau.tables import read_curve  # noqa: PLC0415 (numpy)

    curve = read_curve(file, step=step, value=value)
    for note in curve.notes:
        print(f"unplateau: {file}: {note}", file=sys.stderr)
    found = find_plateaus(curve.steps, curve.values, floor=floor, ceiling=ceiling, direction=direction)
    if json:
        print_json([plateau.as_dict() for plateau in found])
        return
    for plateau in found:
        print(plateau)
    if not found:
        print("no plateau found")
