"""What one damaged run costs: a line that names it, and not the folder it lies in.

A run directory may be damaged in more ways than can be listed, so whatever stops its reading leaves this run out.
"""

import json
import logging
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

from unplateau.errors import DamagedRunsError, RunDirectoryError, UnplateauError
from unplateau.files import read_json
from unplateau.history import History
from unplateau.layout import Cut
from unplateau.store import COSTS, DONE, ENV, METRICS, SPEC, TAIL, TASK, RunRecord

Found = TypeVar("Found")

DAMAGE = (
    UnplateauError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,  # of nested JSON
)
"""What the reading of a damaged run may raise."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """A run that could not be read, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: left out: {self.reason}"

    def as_dict(self) -> dict[str, str]:
        """As JSON data."""
        return {"path": str(self.path), "reason": self.reason}


def readable(paths: Sequence[Path], read: Callable[[Path], Found]) -> tuple[list[Found], list[LeftOut]]:
    """What ``read`` makes of each run directory, and those that it fails on, which are told in a warning each.

    Raises DamagedRunsError if it fails on all of them.
    """
    found, left_out = [], []
    for path in paths:
        try:
            found.append(_read(path, read))
        except DAMAGE as error:
            left_out.append(LeftOut(path, reason(path, error)))
    if len(left_out) == len(paths) == 1:
        raise DamagedRunsError(str(left_out[0]))
    tell(left_out, len(paths))
    if left_out and not found:
        raise DamagedRunsError(f"nothing is left: none of {len(paths)} runs can be read")
    return found, left_out


def tell(left_out: Sequence[LeftOut], total: int) -> None:
    """A warning for each run that was left out of so many, and one that counts them."""
    for one in left_out:
        logger.warning("%s", one)
    if left_out:
        logger.warning("%d of %d runs left out", len(left_out), total)


def reason(path: Path, error: BaseException) -> str:
    """Why this run cannot be read, without its path."""
    if isinstance(error, UnplateauError):
        return str(error).removeprefix(f"{path}/").removeprefix(f"{path}: ")
    if isinstance(error, OSError):
        place = f"{Path(error.filename).name}: " if error.filename else ""
        return f"{place}cannot be read ({error.strerror or error})"
    if isinstance(error, RecursionError):
        return "damaged (nested too deeply)"
    return f"damaged ({type(error).__name__}: {error})"


def _read(path: Path, read: Callable[[Path], Found]) -> Found:
    for name in (SPEC, ENV, TASK, METRICS, COSTS, DONE):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG((path / name).stat().st_mode):
                raise RunDirectoryError(f"{path / name}: is not a file")
    return read(path)


def glance(path: Path) -> RunRecord:
    """The run with its last row alone, for lists of thousands. Raises what ``DAMAGE`` names."""
    if not (path / SPEC).exists():
        raise RunDirectoryError(f"{path}: it has no {SPEC}")
    env, row = read_json(path / ENV), last_row(path / METRICS)
    record = RunRecord(
        path,
        **{name: env["run"][name] for name in ("recipe", "strategy", "seed", "cut")},
        spec=read_json(path / SPEC),
        env=env,
        task=read_json(path / TASK),
        history=History([] if row is None else [row]),
        done=read_json(path / DONE) if (path / DONE).exists() else None,
    )
    check(record)
    return record


def last_row(path: Path) -> dict[str, Any] | None:
    """The last row of a row file that is complete; None if there is none. Raises RunDirectoryError if it is damaged."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        tail, lines = TAIL, [b""]
        while len(lines) < 3 and tail < 16 * size:
            file.seek(max(0, size - tail))
            lines = file.read().rsplit(b"\n", 2)  # what follows the last line break is unfinished
            tail *= 16
    if len(lines) < 2:
        return None
    try:
        row = json.loads(lines[-2])
        row["step"]
    except (ValueError, LookupError, TypeError) as error:
        raise RunDirectoryError(f"{path}: the last row is not a row with a step") from error
    return dict(row)


def check(record: RunRecord) -> None:
    """Raises RunDirectoryError for damage that would be noticed beside other runs only, or not at all."""
    path, spec, env, task = record.path, record.spec, record.env, record.task
    for file, what, found, wanted in (
        (ENV, "recipe", record.recipe, str),
        (ENV, "strategy", record.strategy, str),
        (ENV, "seed", record.seed, int),
        (ENV, "digest", env["run"].get("digest", ""), str),
        (ENV, "versions", env.get("versions", {}), dict),
        (ENV, "machine", env.get("machine", {}), dict),
        *((SPEC, name, spec.get(name, {}), dict) for name in ("task", "model", "train", "strategy")),
        (TASK, "floors", task.get("floors"), dict),
    ):
        if not isinstance(found, wanted) or isinstance(found, bool):
            raise RunDirectoryError(f"{path / file}: {what} must be {_CALLED[wanted]}")
    if record.cut not in get_args(Cut):
        raise RunDirectoryError(f"{path / ENV}: cut must be one of {', '.join(get_args(Cut))}")
    for name in ("steps", "eval_every"):
        if type(spec.get("train", {}).get(name, 1)) is not int:
            raise RunDirectoryError(f"{path / SPEC}: train.{name} must be a whole number")
    json.dumps([spec, env], sort_keys=True)  # RecursionError, where it could be read and not be written
    record.floors.levels("loss")  # TypeError, where they are not numbers
    if record.floors.bayes_accuracy is not None:
        record.floors.levels("accuracy")
    _check_steps(record)


def _check_steps(record: RunRecord) -> None:
    steps, train = [row["step"] for row in record.history], record.spec.get("train", {})
    if not all(type(step) is int and step >= 0 for step in steps) or any(b < a for a, b in pairwise(steps)):
        raise RunDirectoryError(f"{record.path / METRICS}: steps must be whole numbers that do not fall")
    if record.done is not None and "steps" in train:
        last = steps[-1] if steps else 0
        if last < train["steps"] - train["steps"] % max(train.get("eval_every", 1), 1):
            raise RunDirectoryError(
                f"{record.path / METRICS}: ends at step {last} of {train['steps']}, and the run is done"
            )


_CALLED = {str: "a text", int: "a whole number", dict: "an object"}
