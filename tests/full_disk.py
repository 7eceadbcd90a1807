"""A disk that is full, for one child process; and what is in a folder afterwards."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from unplateau.errors import StorageError

CHILDREN = multiprocessing.get_context("fork")


def with_files_of_at_most(n_bytes: int, work: Callable[[], None]) -> int | None:
    """The exit code of a child that does ``work`` where the system refuses longer files, as a full disk does."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
        with pytest.raises(StorageError, match="cannot be written"):
            work()

    child = CHILDREN.Process(target=limited)
    child.start()
    child.join()
    return child.exitcode


def names(folder: Path) -> set[str]:
    """Of everything in a folder."""
    return {path.name for path in folder.iterdir()}
