"""Files that survive a crash at any moment: whole writes, rows, folders, locks.

A reader sees the old file or the new one, never a part. What is not a regular file is never written to.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic_core import from_json

from unplateau.errors import OutputError, RunDirectoryError, StorageError

LONGEST_NAME = 255
"""Bytes of the longest name that file systems have."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error


def name_problem(name: str) -> str | None:
    """Why a folder of this name could leave the folder that it is made in, or not be made; None if it is all right."""
    shown = repr(name if len(name) <= 60 else f"{name[:60]}...")
    if name in ("", ".", ".."):
        return f"{shown} cannot be the name of a folder"
    if bad := next((letter for letter in name if letter in "/\\" or not letter.isprintable()), None):
        return f"{shown} cannot be the name of a folder (it holds {bad!r})"
    if len(os.fsencode(name)) > LONGEST_NAME:
        return (
            f"{shown} is too long for the name of a folder ({len(os.fsencode(name))} bytes, {LONGEST_NAME} are allowed)"
        )
    return None


def refuse_irregular(path: Path) -> None:
    """Raises OutputError for what may be read through but never written to: a link, a device, a FIFO, a folder."""
    kind = _irregular(path)
    if kind and kind != "directory":
        raise OutputError(f"{path}: is a {kind}, which is never written to; choose another path")
    if kind:
        raise OutputError(f"{path}: is a directory; name a file")


def _irregular(path: Path) -> str | None:
    """What is there, in a word; None for a regular file, or nothing, or what cannot be told."""
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def write_whole(path: Path, data: bytes) -> None:
    """Temporary name, fsync, rename. Raises StorageError, leaving no temporary file, if the system refuses.

    Only a regular file is replaced: OutputError otherwise. What writers of this file that were killed have left goes.
    """
    refuse_irregular(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _clear_leftovers(path)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            flush_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()


def _clear_leftovers(path: Path) -> None:
    """Removes temporary files of ``path`` whose process is gone, or was an earlier one with our number."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part")
    for name in os.listdir(path.parent):
        found = pattern.fullmatch(name)
        if found and (int(found[1]) == os.getpid() or not _is_alive(int(found[1]))):
            with suppress(OSError):
                (path.parent / name).unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        return True
    return True


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which gets the name ``folder`` when the block is left without an error.

    One process at a time may do so. What a killed one has left goes first; what has the name already (a damaged one)
    goes last. Raises StorageError if the system refuses.
    """
    if (kind := _irregular(folder)) and kind != "directory":
        raise OutputError(f"{folder}: is a {kind}, in the place of a folder of ours; remove it")
    temporary = folder.with_name(f".{folder.name}.part")
    with storage_errors(folder):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for path in filter(Path.is_file, temporary.rglob("*")):
                flush(path)
            flush_folder(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
            flush_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what only serves this process; those that killed processes of this user have left go first."""
    home = Path(tempfile.gettempdir())
    for left in home.glob("unplateau-*"):
        found = re.fullmatch(r"unplateau-(\d+)-\w+", left.name)
        with suppress(OSError):
            if found and left.lstat().st_uid == os.getuid() and not _is_alive(int(found[1])):
                shutil.rmtree(left, ignore_errors=True)
    with storage_errors(home):
        folder = Path(tempfile.mkdtemp(prefix=f"unplateau-{os.getpid()}-", dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flush(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can say so."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock_of(path: Path) -> Path:
    """The lock file of those who make ``path``."""
    return path.with_name(f"{path.name}.lock")


@contextmanager
def held(lock: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file, made with its folder if need be; yields False if another process does and we don't ``wait``.

    Raises StorageError if the system refuses.
    """
    refuse_irregular(lock)
    file = FileLock(lock)
    with storage_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            file.acquire(timeout=-1 if wait else 0)
    try:
        yield file.is_locked
    finally:
        file.release()


def demand_locks(path: Path) -> None:
    """Raises StorageError where files cannot be locked, as on some network file systems: runs must not be shared."""
    folder = next(above for above in (path, *path.parents) if above.is_dir())
    with storage_errors(path), tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"{path}: its file system has no locks ({error.strerror}), which keep two processes out of one run; "
                f"choose another --out"
            ) from error


def is_held(lock: Path) -> bool:
    """Does a process hold this lock now? Tried with a shared lock, which no other reader is kept by."""
    if not lock.is_file():
        return False
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises RunDirectoryError, naming the file, if it is missing or damaged."""
    try:
        value = loaded(_content(path))
    except ValueError as error:
        raise RunDirectoryError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{path}: must hold a JSON object")
    return value


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror or error})") from error


def open_regular(path: Path) -> BinaryIO:
    """A regular file, or one that a link leads to, to read: anything else might never end.

    Raises RunDirectoryError for what is none, OSError as ``open`` does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunDirectoryError(f"{path}: is no file")
    return os.fdopen(descriptor, "rb")


def loaded(text: bytes) -> Any:
    """A JSON value, in which NaN and infinities are none. Raises ValueError, also for one that is nested too deeply."""
    return from_json(text, allow_inf_nan=False)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object whole."""
    write_whole(path, json_bytes(value))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """The file of a JSON object. Raises ValueError for NaN and infinities."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line that was cut off by a crash is left out.

    Raises RunDirectoryError, naming the line, if one is no object with a step.
    """
    return rows_in(_content(path), path) if path.exists() else []


def rows_in(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The same of the content of ``path``."""
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):  # what follows the last newline is unfinished
        try:
            row = loaded(line)
            step = row["step"]  # every row has one
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirectoryError(f"{path}: line {number} is not a row with a step") from error
        if isinstance(step, bool) or not isinstance(step, int | float):
            raise RunDirectoryError(f"{path}: line {number} is not a row with a step (that is a number)")
        rows.append(row)
    return rows


def line_of(row: Mapping[str, Any]) -> bytes:
    """How a row stands in its file. Raises ValueError for NaN and infinities."""
    return (json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n").encode()


class RowFile:
    """An append-only JSON-lines file, cut back to ``keep_bytes`` (as a checkpoint found it) or to its whole rows.

    Only a regular file is touched: OutputError otherwise.
    """

    def __init__(self, path: Path, *, keep_bytes: int | None = None) -> None:
        self.path = path
        refuse_irregular(path)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if keep_bytes is None:
                keep_bytes = path.read_bytes().rfind(b"\n") + 1
            if self.size() < keep_bytes:
                raise RunDirectoryError(f"{path}: rows are missing that the checkpoint was taken after")
            if self.size() > keep_bytes:
                os.truncate(path, keep_bytes)
            self._sha256 = hashlib.sha256(path.read_bytes())

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row in a single write. Raises StorageError, keeping the rows before, if the system refuses."""
        line = line_of(row)
        refuse_irregular(self.path)
        with storage_errors(self.path):
            size = self.size()
            try:
                with self.path.open("ab") as file:
                    file.write(line)
            except OSError:
                os.truncate(self.path, size)
                raise
        self._sha256.update(line)

    def sha256(self) -> str:
        """Hex digest of all rows."""
        return self._sha256.hexdigest()

    def flush(self) -> None:
        """Waits until all rows are on the disk. Raises StorageError if the system refuses."""
        with storage_errors(self.path):
            flush(self.path)

    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size
