"""Holds a run directory; a run that never began leaves nothing behind."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unplateau.store import LOCK, SPEC, locked


@contextmanager
def begun(path: Path) -> Iterator[None]:
    """Holds the run directory for this process, and makes it.

    If an error leaves it without a spec, which is the last of the files that are written before the first step, what
    was not there before is removed, the folders above included. Raises RunLockedError if another process has it.
    """
    above = [folder for folder in path.parents if not os.path.exists(folder)]
    try:
        with locked(path):
            fresh = {one.name for one in path.iterdir()} <= {LOCK}
            try:
                yield
            except BaseException:
                if fresh and not (path / SPEC).exists():
                    shutil.rmtree(path, ignore_errors=True)
                raise
    except BaseException:
        for folder in above:
            with suppress(OSError):  # others stand in it, or it could not be made
                folder.rmdir()
        raise
