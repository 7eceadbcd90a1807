"""Failures as one line: what went wrong, where, and what would be right.

What enters: any exception. What leaves: a :class:`Failure`, and a line on standard error.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass

from unplateau.errors import UnplateauError


@dataclass(frozen=True)
class Failure:
    """What the user is told. ``page`` names the page in ``docs/errors``, if there is one."""

    message: str
    exit_code: int
    page: str | None = None


def explain(error: BaseException) -> Failure:
    """One clear line for this exception; an unexpected one is named as such."""
    if isinstance(error, UnplateauError):
        return Failure(one_line(str(error)), error.exit_code, error.page)
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", 1)
    if isinstance(error, MemoryError):
        return Failure("out of memory; a smaller batch or model needs less", 1)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return Failure(one_line(f"{place}{error.strerror or error}"), 1, "storage")
    if type(error).__name__ == "ValidationError" and type(error).__module__.startswith("pydantic"):
        from unplateau import config  # noqa: PLC0415 (pydantic is loaded already)

        return Failure(config.one_line(error), 2, "spec")  # type: ignore[arg-type]
    kind = type(error).__name__
    return Failure(one_line(f"unexpected {kind}: {error} (--debug shows where)"), 1)


def tell(failure: Failure) -> None:
    """The line on standard error; people at a terminal also see which page explains it."""
    hint = f"  (see docs/errors/{failure.page}.md)" if failure.page and sys.stderr.isatty() else ""
    if hint and not os.environ.get("NO_COLOR"):
        hint = f"\x1b[2m{hint}\x1b[0m"
    print(f"unplateau: {failure.message}{hint}", file=sys.stderr)


def warnings_told() -> None:
    """Sends the package's warnings to standard error, one line each."""
    logger = logging.getLogger("unplateau")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines(logging.WARNING))


class _Lines(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment: a progress bar may have put itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"unplateau: {one_line(record.getMessage())}", file=sys.stderr)


def one_line(text: str) -> str:
    """``text`` with its line breaks and runs of spaces closed up."""
    return " ".join(text.split())
