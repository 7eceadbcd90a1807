"""Bytes to text: UTF-8, strictly; another encoding only where an archive is known to need it.

What enters: bytes and where they come from. What leaves: text without a byte order mark.
"""

from __future__ import annotations

from pathlib import Path

from unplateau.errors import DataError


def decoded(data: bytes, *, fallback: str) -> str:
    """UTF-8, or else the declared single-byte encoding of an archive of which some files are older than UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(fallback, errors="replace")


def read_text(path: Path) -> str:
    """A user's text file. Raises DataError, naming the first bad byte and what to do, unless it is UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16, not UTF-8; {_convert(path, 'UTF-16')}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 at byte {error.start} (0x{data[error.start]:02x}); {_convert(path, 'CP1252')}"
        ) from error
    if "\0" in text:
        raise DataError(f"{path}: not a text file (a zero byte at {data.index(0)})")
    return text


def _convert(path: Path, encoding: str) -> str:
    return f"convert it: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
