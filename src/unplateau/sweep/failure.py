"""A run that ended without being done, and what it has said."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from unplateau.errors import UnplateauError
from unplateau.files import write_whole
from unplateau.store import RunState

LOGS = ".logs"
"""Folder beside the runs for what those have said that failed."""


@dataclass(frozen=True)
class RunFailure:
    """A run that ended without being done: ``message`` is one line, which names the log if there is more."""

    path: Path
    name: str
    exit_code: int
    message: str

    @classmethod
    def of(cls, run: RunState, out: Path, exit_code: int, message: str, said: Sequence[str]) -> RunFailure:
        """Keeps all lines that it has said below ``out``, unless the message is all."""
        log = out / LOGS / f"{run.path.relative_to(out)}.log"
        if said and [*said] != [message]:
            with suppress(UnplateauError):  # a full disk may be why it failed
                write_whole(log, "".join(f"{line}\n" for line in said).encode())
                message = f"{message} (its log: {log})"
        return cls(run.path, run.name, exit_code, message)
