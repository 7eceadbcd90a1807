"""A run that never began leaves nothing behind."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unplateau.store import SPEC


@contextmanager
def left_as_found(path: Path) -> Iterator[None]:
    """Removes a run directory, and the folders that it stands in, if an error leaves them without a spec.

    Only what was not there before: a spec is the last of the files that are written before the first step.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if path in made and not (path / SPEC).exists():
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # others stand in them
                for folder in made[1:]:
                    folder.rmdir()
        raise
