"""What users hand in, read so that nothing hangs and nothing is taken for what it is not: files, YAML, JSON.

A file is a regular one of a size that memory can hold; a document says each key once, and numbers as they are written
today (YAML 1.2), with no room for what is small on the disk and endless in memory.
"""

import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from unplateau.errors import DataError
from unplateau.limits import gigabytes, memory

MOST_DOCUMENT = 1_000_000
"""Bytes of a spec or a task; a long one has some thousands."""
MOST_DEEP = 64
"""Levels of a document."""
MOST_VALUES = 100_000
"""Values of a YAML document, with those counted that its aliases repeat."""
MOST_DIGITS = 400
"""Of an integer in YAML."""
PER_BYTE = 4
"""Bytes of memory that each byte of a file takes at least once it is understood."""
CHUNK = 1 << 20
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_DESCRIPTORS = re.compile(r"/dev/fd/\d+|/proc/self/fd/\d+")
"""How shells name what ``<(command)`` writes: a pipe that has its writer."""
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = (None, *(f"{_TAG}{name}" for name in ("str", "null", "map", "seq")))
"""What is made as PyYAML makes it; None: the refusal of a tag that is unknown."""

Pairs = Callable[[list[tuple[str, Any]]], Any]


def read_file(path: str | Path, *, most: int | None = None) -> bytes:
    """The content of a regular file of at most ``most`` bytes; by default as many as memory can hold.

    Raises DataError, one line, if it is another kind of file (none of which is waited for), too large, or unreadable.
    """
    path = Path(path)
    limit = memory() // PER_BYTE if most is None else most
    try:
        descriptor = _opened(path)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            content = None if size > limit else _up_to(limit, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a zero byte in the path
        raise DataError(f"{path}: cannot be read ({error})") from error
    if content is None:
        raise DataError(too_large(str(path), max(size, limit), most))
    return content


def _opened(path: Path) -> int:
    """A descriptor of a regular file. Raises DataError if it is none, without waiting for anybody to write it."""
    from_shell = _DESCRIPTORS.fullmatch(str(path)) is not None
    _refuse_kind(path, os.stat(path).st_mode, from_shell=from_shell)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _refuse_kind(path, os.fstat(descriptor).st_mode, from_shell=from_shell)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_kind(path: Path, mode: int, *, from_shell: bool) -> None:
    if stat.S_ISREG(mode) or (from_shell and stat.S_ISFIFO(mode)):
        return
    kind = next((name for test, name in _KINDS if test(mode)), "something else")
    raise DataError(f"{path}: cannot be read (it is {kind}, not a file)")


def read_standard_input() -> bytes:
    """All of it. Raises DataError if memory cannot hold it."""
    content = _up_to(memory() // PER_BYTE, sys.stdin.buffer)
    if content is None:
        raise DataError(too_large("standard input", memory() // PER_BYTE, None))
    return content


def _up_to(limit: int, file: BinaryIO) -> bytes | None:
    """The rest of a file; None if it has more bytes than this."""
    parts, size = [], 0
    while part := file.read(CHUNK):
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


def too_large(name: str, size: int, most: int | None) -> str:
    """What is said of a file that is."""
    if most is not None:
        return f"{name}: is too large ({size:,} bytes or more, at most {most:,} are read)"
    need, there = gigabytes(PER_BYTE * size), gigabytes(memory())
    return (
        f"{name}: is too large ({gigabytes(size)} or more take at least {need} of memory, and this machine has {there})"
    )


def json_value(text: str, *, pairs: Pairs | None = None) -> Any:
    """The JSON value. Raises ValueError, one line, if it is none, says a key twice, or is nested too deeply.

    ``pairs``: what makes an object of its members, in the place of the dict that has each key once.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs or _with_each_key_once)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError("an integer has thousands of digits") from None
        raise
    if text.count("{") + text.count("[") > MOST_DEEP and _is_too_deep(value):
        raise ValueError(_too_deep())
    return value


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        often = Counter(name for name, _ in pairs)
        raise ValueError(f"the key '{max(often, key=lambda name: often[name])}' comes twice")
    return found


def _is_too_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEEP:
            return True
        level = [
            inside
            for one in level
            if isinstance(one, dict | list)
            for inside in (one.values() if isinstance(one, dict) else one)
            if isinstance(inside, dict | list)
        ]
    return False


def _too_deep() -> str:
    return f"nested too deeply, more than {MOST_DEEP} levels"


def yaml_value(text: str) -> Any:
    """The YAML value, plain words and numbers read as YAML 1.2 does: ``yes`` and ``1:30`` are words.

    Raises ValueError, one line, if it is none, says a key twice, is nested too deeply, or its aliases multiply it.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain words and numbers, and limits that are met while a document is put together."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's way; filled below)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuses what is too deep or too much as soon as it is seen."""
        self._depth += 1
        if self._depth > MOST_DEEP:
            self._refuse(_too_deep())
        if self.check_event(yaml.AliasEvent):
            event: yaml.AliasEvent = self.peek_event()  # type: ignore[no-untyped-call]
            meant = self.anchors.get(event.anchor)
            if meant is not None and id(meant) not in self._sizes:
                self._refuse("an alias stands inside what it is an alias of")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and id(node) not in self._sizes:
            self._sizes[id(node)] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        """Values in it, those counted that aliases repeat."""
        size = 1 + sum(self._sizes[id(inside)] for inside in self._members(node))
        if size > MOST_VALUES:
            self._refuse(f"it stands for more than {MOST_VALUES:,} values; its aliases repeat each other")
        return size

    def _members(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.MappingNode):
            return []
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse("a key must be a word")
            if (name := (key.tag, key.value)) in seen:
                self._refuse(f"the key '{key.value}' comes twice")
            seen.add(name)
        return [part for pair in node.value for part in pair]

    def _refuse(self, why: str) -> None:
        raise yaml.YAMLError(f"{why}, line {self.get_mark().line + 1}")

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Decimal, ``0x`` or ``0o``."""
        text = str(self.construct_scalar(node))
        if len(text) > MOST_DIGITS:
            self._refuse(f"an integer has {len(text):,} digits")
        digits, sign = text.lstrip("+-"), -1 if text.startswith("-") else 1
        base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
        try:
            return sign * int(digits[2:] if base != 10 else digits, base)
        except ValueError:
            raise yaml.YAMLError(f"'{text}' is no integer") from None

    def construct_truth(self, node: yaml.ScalarNode) -> bool:
        """``true`` or ``false``."""
        text = str(self.construct_scalar(node)).lower()
        if text not in ("true", "false"):
            raise yaml.YAMLError(f"'{text}' is neither true nor false")
        return text == "true"

    def construct_real(self, node: yaml.ScalarNode) -> float:
        """Decimal, ``.inf`` or ``.nan``."""
        text = str(self.construct_scalar(node))
        try:
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        except ValueError:
            raise yaml.YAMLError(f"'{text}' is no number") from None


_Loader.yaml_constructors = {
    **{tag: made for tag, made in yaml.SafeLoader.yaml_constructors.items() if tag in _PLAIN_TAGS},
    f"{_TAG}int": _Loader.construct_integer,
    f"{_TAG}float": _Loader.construct_real,
    f"{_TAG}bool": _Loader.construct_truth,
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _firsts = [*_first.replace("\0", ""), *([""] if "\0" in _first else [])]
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(rf"^(?:{_pattern})$"), _firsts)
