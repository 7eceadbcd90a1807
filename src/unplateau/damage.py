"""What one damaged run costs: a line that names it, and not the folder it lies in.

A run directory may be damaged in more ways than can be listed, so whatever stops its reading leaves this run out.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from unplateau.errors import DamagedRunsError, UnplateauError

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
            found.append(read(path))
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
