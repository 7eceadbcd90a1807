"""Files that survive a crash at any moment: whole writes, rows, locks, and a cache of what takes long to make.

A reader sees the old file or the new one, never a part; what is in the cache can be deleted at any time.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from unplateau.errors import RunDirectoryError, StorageError

Arrays = dict[str, npt.NDArray[Any]]


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_whole(path: Path, data: bytes) -> None:
    """Temporary name, fsync, rename. Raises StorageError, leaving no temporary file, if the system refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            flush(temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which gets the name ``folder`` when the block is left without an error.

    One process at a time may do so. What a killed one has left goes first; what has the name already (a damaged one)
    goes last. Raises StorageError if the system refuses.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    with storage_errors(folder):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for path in filter(Path.is_file, temporary.rglob("*")):
                flush(path)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def flush(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def lock_of(path: Path) -> Path:
    """The lock file of those who make ``path``."""
    return path.with_name(f"{path.name}.lock")


@contextmanager
def held(lock: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file, made with its folder if need be; yields False if another process does and we don't ``wait``.

    Raises StorageError if the system refuses.
    """
    file = FileLock(lock)
    with storage_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            file.acquire(timeout=-1 if wait else 0)
    try:
        yield file.is_locked
    finally:
        file.release()


def is_held(lock: Path) -> bool:
    """Does a process hold this lock now? Tried with a shared lock, which no other reader is kept by."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises RunDirectoryError, naming the file, if it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunDirectoryError(f"{path}: cannot be read as JSON ({reason})") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{path}: must hold a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object whole."""
    write_whole(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line that was cut off by a crash is left out."""
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror or error})") from error
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is unfinished
        try:
            row = json.loads(line)
            row["step"]  # every row has one
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirectoryError(f"{path}: line {number} is not a row with a step") from error
        rows.append(row)
    return rows


class RowFile:
    """An append-only JSON-lines file, cut back to ``keep_bytes`` (as a checkpoint found it) or to its whole rows."""

    def __init__(self, path: Path, *, keep_bytes: int | None = None) -> None:
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if keep_bytes is None:
                keep_bytes = path.read_bytes().rfind(b"\n") + 1
            if self.size() < keep_bytes:
                raise RunDirectoryError(f"{path}: rows are missing that the checkpoint was taken after")
            os.truncate(path, keep_bytes)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row in a single write. Raises StorageError, keeping the rows before, if the system refuses."""
        line = json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n"
        size = self.size()
        with storage_errors(self.path):
            try:
                with self.path.open("ab") as file:
                    file.write(line.encode())
            except OSError:
                os.truncate(self.path, size)
                raise

    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size


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
