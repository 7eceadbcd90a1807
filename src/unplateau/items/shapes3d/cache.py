"""Arrays that take long to make, kept on disk under the user's cache directory (or ``UNPLATEAU_CACHE``).

What enters: a name, everything that the arrays depend on, and a function that makes them. What leaves: the arrays. A
file that is missing, truncated or altered is made again; two processes never make the same one at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unplateau.cache import cache_dir

FORMAT = 1
"""Raised whenever the meaning of a cached array changes, so that old files are not read."""

Arrays = dict[str, npt.NDArray[Any]]


def cache_path(name: str, key: object) -> Path:
    """The file for arrays called ``name`` that depend on ``key`` (plain data)."""
    text = json.dumps([FORMAT, name, key], sort_keys=True)
    return cache_dir() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


def cached(path: Path, build: Callable[[], Arrays]) -> Arrays:
    """The arrays in ``path``, built and written there if needed; a cache that cannot be written only costs time."""
    found = load(path)
    if found is not None:
        return found
    with locked(path) as writable:
        found = load(path) if writable else None
        if found is not None:
            return found
        arrays = build()
        if writable:
            with suppress(OSError):
                store(path, arrays)
        return arrays


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Waits until no other process holds ``path``; yields False where the directory cannot be written."""
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def load(path: Path) -> Arrays | None:
    """The arrays in ``path``; None if there is no such file, or it is not what :func:`store` wrote."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            checksum = (file.metadata() or {}).get("checksum")
    except (OSError, SafetensorError):
        return None
    return arrays if checksum == _checksum(arrays) else None


def store(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes ``path`` whole or not at all; OSError if the system refuses."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = save(arrays, metadata={"checksum": _checksum(arrays)})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        digest.update(np.asarray(arrays[name], order="C").data)
    return digest.hexdigest()
