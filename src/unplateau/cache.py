"""Arrays that take long to make, kept in the user's cache directory: whatever is there can be deleted at any time."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_dir

from unplateau.errors import StorageError
from unplateau.files import held, lock_of, write_whole

Arrays = dict[str, npt.NDArray[Any]]


def cache_dir() -> Path:
    """``UNPLATEAU_CACHE`` if it is set, else the user's cache directory; not created here."""
    return Path(os.environ.get("UNPLATEAU_CACHE") or user_cache_dir("unplateau"))


def cache_path(name: str, key: object) -> Path:
    """The file for arrays called ``name`` that depend on ``key`` (plain data)."""
    text = json.dumps([1, name, key], sort_keys=True)  # the 1 is raised whenever arrays change their meaning
    return cache_dir() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


def cached(path: Path, build: Callable[[], Arrays]) -> Arrays:
    """The arrays in ``path``, built and written there by one process at a time if they are missing or damaged.

    A cache that cannot be written only costs time.
    """
    found = load_arrays(path)
    if found is not None:
        return found
    with ExitStack() as lock:
        try:
            lock.enter_context(held(lock_of(path)))
        except StorageError:
            return build()
        found = load_arrays(path)
        if found is None:
            found = build()
            with suppress(StorageError):
                save_arrays(path, found)
        return found


def load_arrays(path: Path) -> Arrays | None:
    """The arrays in ``path``; None if there is no such file, or it is not what :func:`save_arrays` wrote."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 (most readers of files need no arrays)

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            checksum = (file.metadata() or {}).get("checksum")
    except (OSError, SafetensorError):
        return None
    return arrays if checksum == _checksum(arrays) else None


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes arrays whole, with a checksum of their content."""
    from safetensors.numpy import save  # noqa: PLC0415

    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_whole(path, save(whole, metadata={"checksum": _checksum(whole)}))


def _checksum(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()
