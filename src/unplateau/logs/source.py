"""The text of a log: a file, a compressed one, standard input, or the log in a folder; in whatever encoding."""

import re
import zlib
from pathlib import Path
from typing import NamedTuple

from unplateau.errors import DataError
from unplateau.inputs import CHUNK, read_file, read_standard_input

LOG_NAMES = ("metrics.jsonl", "trainer_state.json", "metrics.csv", "progress.csv", "monitor.csv", "history.json")
"""Files that a folder of a run has its log in."""
LOG_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".log", ".txt", ".out", ".gz")
KINDS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (as checkpoints of PyTorch, .npz and spreadsheets are)"),
    (b"PAR1", "a Parquet file; export it as CSV"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array; save it with numpy.savetxt"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b":W&B", "W&B's own file of a run; export its history as CSV"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
)
"""What binary files begin with, and what they are."""
STANDARD_INPUT = ("-", "/dev/stdin")
MOST_LINE = 10_000_000
"""Characters of a line that is not JSON."""
MOST_START = 1000
"""Characters in which a file shows what it is."""
MOST_UNPACKED = 300
"""Times its size to which a compressed log may unpack; logs that hardly change reach 100."""
PIECE = 1 << 16
"""Bytes of a compressed log that are unpacked at a time: to 66 MB at most."""
_ZEROS = re.compile(rb"\0*")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Source(NamedTuple):
    """A text and what it took to read it."""

    name: str
    text: str
    notes: tuple[str, ...] = ()


def log_in(path: Path) -> Path:
    """The file itself; of a folder the one log in it. Raises DataError, naming what there is, if it is not one."""
    if not path.is_dir():
        return path
    found = [path / name for name in LOG_NAMES if (path / name).is_file()] or is_events(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{path}: has several logs; name one: {', '.join(one.name for one in found)}")
    nearby = [*path.glob("*/*"), *path.glob("*/*/*")]
    below = sorted(one for one in nearby if one.name in LOG_NAMES or "tfevents" in one.name)
    below = below or sorted(one for one in path.iterdir() if one.suffix in LOG_ENDINGS)
    hint = f"; there is {', '.join(str(one.relative_to(path)) for one in below[:4])}" if below else ""
    raise DataError(f"{path}: a folder without a log (such as {', '.join(LOG_NAMES[:3])}){hint}")


def is_events(path: Path) -> list[Path]:
    """``path`` if it is an event file of TensorBoard; of a folder itself, if it has some."""
    if path.is_dir():
        return [path] if any("tfevents" in one.name for one in path.iterdir()) else []
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return []
    return [path] if "tfevents" in path.name or b"brain.Event:" in start else []


def read_source(path: Path) -> Source:
    """The text of a file, or of standard input for ``-``. Raises DataError if it is not text."""
    from_pipe = str(path) in STANDARD_INPUT
    name = "standard input" if from_pipe else str(path)
    data = read_standard_input() if from_pipe else read_file(path)
    data, notes = _unpacked(name, data)
    text, said = _decoded(name, data)
    text = _ESCAPES.sub("", text).removeprefix("\ufeff").replace("\r\n", "\n")
    text = text if "\n" in text else text.replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{name}: is empty")
    if text[:MOST_START].lstrip()[:9].lower().startswith(("<!doctype", "<html", "<?xml", "<svg")):
        raise DataError(f"{name}: looks like a page of HTML or XML, not a log")
    return Source(name, text, (*notes, *said))


def refuse_long_lines(source: Source) -> None:
    """Raises DataError for a line that no log has; JSON, which may stand on one line, is not asked."""
    start, at, text = 0, 1, source.text
    while len(text) - start > MOST_LINE:
        end = text.find("\n", start, start + MOST_LINE + 1)
        if end < 0:
            raise DataError(f"{source.name}: line {at} has more than {MOST_LINE:,} characters; a log has shorter ones")
        start, at = end + 1, at + 1


def _unpacked(name: str, data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """What is in a gzip file, up to where it was cut off; anything else as it is."""
    if not data.startswith(b"\x1f\x8b"):
        return data, ()
    parts, size, at = [], 0, 0
    unpack = zlib.decompressobj(wbits=31)
    try:
        while at < len(data):
            piece = data[at : at + PIECE]  # small, so that what it unpacks to is seen before there is much of it
            parts.append(unpack.decompress(piece))
            at, size = at + len(piece), size + len(parts[-1])
            if size > MOST_UNPACKED * len(data) + CHUNK:
                raise DataError(f"{name}: unpacks to more than {MOST_UNPACKED} times its size; no log does")
            if unpack.eof:
                at = _after_zeros(data, at - len(unpack.unused_data))
                if at == len(data):
                    return b"".join(parts), ()
                unpack = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise DataError(f"{name}: is damaged, as a gzip file ({error})") from error
    return b"".join(parts), ("the compressed file is cut off: read as far as it goes",)


def _after_zeros(data: bytes, at: int) -> int:
    """Where the bytes that fill a block up end."""
    found = _ZEROS.match(data, at)
    return found.end() if found else at


def _decoded(name: str, data: bytes) -> tuple[str, tuple[str, ...]]:
    if encoding := _wide(data):
        try:
            even = data[: len(data) - len(data) % 2]
            return even.decode(encoding), ()
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: begins as UTF-16 and is not ({error.reason} at byte {error.start})") from error
    for start, kind in KINDS:
        if data.startswith(start):
            raise DataError(f"{name}: is not a text file; it looks like {kind}")
    if binary := _BINARY.search(data):
        raise DataError(f"{name}: is not a text file (byte 0x{binary[0][0]:02x} at {binary.start()})")
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8-sig"), ()  # the file is still being written
        found = f"not UTF-8 at byte {error.start}: read as Latin-1"
        return data.decode("cp1252", errors="replace"), (found,)


def _wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 by its mark, or by the zero byte in every second place."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = data[:400]
    halves = (start[::2], start[1::2])
    if len(start) >= 8 and any(half.count(0) > 0.9 * len(half) for half in halves):
        return "utf-16-be" if halves[0].count(0) > halves[1].count(0) else "utf-16-le"
    return None
