"""The one rule for outputs: what is not ours is never written over.

What a user names as an output is written where nothing is, or over a regular file of our making, which each kind of
file tells by a mark of its own, or over any regular file with ``--force``.
"""

from collections.abc import Callable
from pathlib import Path

from unplateau.errors import OutputError
from unplateau.files import line_of, loaded, refuse_irregular, storage_errors, write_whole

Ours = Callable[[bytes], bool]
"""Whether a file with this content is of our making."""
LARGEST = 256 * 1024 * 1024
"""Bytes of the largest file that is looked into for whose it is; nothing that we write is as long."""


def write_output(path: Path, data: bytes, ours: Ours, *, force: bool = False) -> None:
    """Writes whole what a user has named as an output, if :func:`demand_replaceable` allows it."""
    demand_replaceable(path, ours, force=force)
    write_whole(path, data)


def demand_replaceable(path: Path, ours: Ours, *, force: bool | None = False) -> None:
    """The one rule for outputs: what is there is written over only if it is a regular file, and ours or to be forced.

    A link, a device, a FIFO and a folder never are. ``force``: None where files are added to, and there is nothing to
    force. Raises OutputError, without touching anything.
    """
    refuse_irregular(path)
    with storage_errors(path):
        if force or not path.exists():
            return
        mine = path.stat().st_size <= LARGEST and _empty_or(ours, path.read_bytes())
    if not mine:
        way_out = "" if force is None else ", or replace it with --force (in Python force=True)"
        raise OutputError(f"{path}: exists and is not of our making; choose another path{way_out}")


def _empty_or(ours: Ours, content: bytes) -> bool:
    return not content or ours(content)


def nobodys(content: bytes) -> bool:
    """For files in which nothing tells their maker."""
    return not content


def marked(form: str) -> Ours:
    """Pictures and pages (``html``, ``svg``, ``png``, ``pdf``) that name this program as their maker."""
    mark = _MARKS[form]
    return lambda content: mark in content


MAKER = "unplateau"
_MARKS = {
    "html": f'<meta name="generator" content="{MAKER}">'.encode(),
    "svg": f"<dc:title>{MAKER}</dc:title>".encode(),
    "png": f"Software\0{MAKER}".encode(),
    "pdf": f"/Creator ({MAKER})".encode(),
}


def keyed(*keys: str) -> Ours:
    """JSON objects that have these keys."""

    def ours(content: bytes) -> bool:
        try:
            value = loaded(content)
        except ValueError:
            return False
        return isinstance(value, dict) and set(keys) <= set(value)

    return ours


def like_table(data: bytes) -> Ours:
    """CSV whose header begins and ends as that of ``data``; between, settings have columns of their own."""

    def header(content: bytes) -> list[bytes]:
        return content.split(b"\n", 1)[0].strip().split(b",")

    mine = header(data)
    return lambda content: header(content)[:2] == mine[:2] and header(content)[-2:] == mine[-2:]


def rows_with(*columns: str, written_here: bool = False) -> Ours:
    """JSON lines, each with these columns; the last may be cut off. ``written_here``: in the form of :class:`RowFile`.

    The columns are the mark, or where others have them too the form: rows have no room for another.
    """

    def is_row(line: bytes) -> bool:
        try:
            row = loaded(line)
        except ValueError:
            return False
        if not isinstance(row, dict) or not set(columns) <= set(row):
            return False
        return not written_here or line_of(row) == line + b"\n"

    def ours(content: bytes) -> bool:
        *lines, last = content.split(b"\n")
        unfinished = not last or (last.startswith(b'{"') and bool(lines))
        return unfinished and all(map(is_row, lines))

    return ours
