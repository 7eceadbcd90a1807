"""Every error that unplateau raises on purpose: one clear line, an exit code, and a page in ``docs/errors``.

The command line prints the message as it is. Errors that are the user's doing exit with 2, all others with 1.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class UnplateauError(Exception):
    """Base of all errors raised on purpose; ``page`` names its page in ``docs/errors``."""

    exit_code: ClassVar[int] = 1
    page: ClassVar[str] = "index"


class SpecError(UnplateauError, ValueError):
    """A configuration that names something unknown, or sizes that cannot work."""

    exit_code = 2
    page = "spec"


class DataError(UnplateauError):
    """A data file that is missing, truncated, foreign or not usable as given."""

    exit_code = 2
    page = "data"


class RunDirectoryError(UnplateauError):
    """A run directory that is missing, incomplete, or belongs to another spec."""

    exit_code = 2
    page = "run-directory"


class RunLockedError(RunDirectoryError):
    """Another process is already writing this run directory."""

    page = "run-locked"


class DamagedRunsError(RunDirectoryError):
    """None of the runs that were asked for could be read."""

    exit_code = 1
    page = "damaged-runs"


class CheckpointError(UnplateauError):
    """No checkpoint of a run could be read: all are truncated, corrupted or foreign."""

    page = "checkpoint"


class DivergedError(UnplateauError):
    """A loss, of training or of what observers evaluate, became NaN or infinite; the last good checkpoint is kept."""

    page = "diverged"


class StorageError(UnplateauError):
    """The operating system refused a write: disk full, no permission, file too large."""

    page = "storage"


class OutputError(StorageError):
    """A path to write to that holds what is not ours to replace: somebody's file, a link, a device, a folder."""

    exit_code = 2
    page = "output"


class MissingExtraError(UnplateauError):
    """An optional dependency is needed for this and is not installed."""

    exit_code = 2
    page = "missing-extra"


class EngineError(UnplateauError):
    """What should start the runs of a sweep cannot be used: a cluster that is not reached, or that refuses a job."""

    page = "engine"


class InterruptedRunError(UnplateauError):
    """Training was stopped by Ctrl-C or SIGTERM after saving a checkpoint."""

    page = "interrupted"


class LostProcessError(UnplateauError):
    """A process of a run on several devices has ended before the others, or cannot be reached."""

    page = "lost-process"


class LawError(UnplateauError):
    """A task, model, strategy or observer breaks one of the laws in ``unplateau.testing``."""

    page = "law"


MOST_COMPARED = 100
"""Characters of a name that are compared with others."""


def in_words(error: BaseException) -> str:
    """``ValueError: what it says``, of an error that is not ours, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def suggest(name: str, options: Iterable[str], *, otherwise: str = "") -> str:
    """``; did you mean 'x'?`` for the closest of ``options``, else the list of what there is, and ``otherwise``."""
    known, name = sorted(options), name[:MOST_COMPARED]
    spelt = {option.lower(): option for option in reversed(known)}
    if close := difflib.get_close_matches(name.lower(), spelt, n=1):
        return f"; did you mean '{spelt[close[0]]}'?"
    return "".join(f"; {part}" for part in (f"known: {', '.join(known)}" if known else "", otherwise) if part)


def missing_extra(what: str, extra: str) -> MissingExtraError:
    """``Digits needs scikit-learn: pip install 'unplateau[digits]'``."""
    return MissingExtraError(f"{what}: {install(extra)}")


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'unplateau[{extra}]'"


def demand(kept: bool, subject: object, law: str) -> None:
    """Raises LawError unless the law is kept."""
    if not kept:
        raise LawError(f"{type(subject).__name__} breaks a law: {law}")
