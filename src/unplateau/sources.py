"""The source code of classes that are not this package's own, so that a run of an edited class is another run.

Of a class all that decides what it computes is gathered: its own text, that of its bases, and of functions, classes
and constants of its author that these name. Comments, docstrings and layout don't count.
"""

import ast
import hashlib
import inspect
import linecache
import logging
import sys
import sysconfig
import textwrap
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

logger = logging.getLogger(__name__)
_INSTALLED = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib", "stdlib"))
_LONG = 200
"""Letters of a value beyond which its sha256 stands for it."""
_Written = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def is_foreign(cls: type) -> bool:
    """Whether a class is not from this package."""
    return cls.__module__.partition(".")[0] != __name__.partition(".")[0]


def gathered_source(cls: type) -> dict[str, str]:
    """The code that a class of somebody's own rests on, by address, its own first.

    A class that names ``code_version`` has that in the place of its code. What cannot be read, as in an interpreter at
    a prompt, is told in a warning and left out.
    """
    found: dict[str, str] = {}
    _gather(cls, cls.__module__.partition(".")[0], found)
    return found


def _gather(one: Any, home: str, found: dict[str, str]) -> None:
    """Adds a class or function, and then what it names. ``home``: the package that it started from."""
    if _address(one) in found:
        return
    if isinstance(one, type) and (version := vars(one).get("code_version")):
        found[_address(one)] = f"version {version}"
        return
    written = _written(one)
    found[_address(one)] = "" if written is None else ast.unparse(written)
    for base in getattr(one, "__bases__", ()):
        if _is_own(base.__module__, home):
            _gather(base, home, found)
    if written is not None and one.__module__ in sys.modules:
        _gather_named(written, sys.modules[one.__module__], home, found)


def _gather_named(written: ast.stmt, module: ModuleType, home: str, found: dict[str, str]) -> None:
    for name, value in _named(written, vars(module), home):
        if isinstance(value, type | FunctionType):
            if _is_own(value.__module__, home):
                _gather(value, home, found)
        elif constant := _constant(name, value, module):
            found.setdefault(f"{module.__name__}:{name}", constant)


def _named(written: ast.AST, names: dict[str, Any], home: str) -> list[tuple[str, Any]]:
    """Global names, and attributes of own modules, that the code mentions, with what they are now; no modules."""
    mentioned: dict[str, Any] = {}
    for node in ast.walk(written):
        if isinstance(node, ast.Name) and node.id in names:
            mentioned[node.id] = inspect.unwrap(names[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            holder = names.get(node.value.id)
            if isinstance(holder, ModuleType) and _is_own(holder.__name__, home):
                mentioned[f"{node.value.id}.{node.attr}"] = inspect.unwrap(vars(holder).get(node.attr, holder))
    return [(name, value) for name, value in sorted(mentioned.items()) if not isinstance(value, ModuleType)]


def _is_own(module: str, home: str) -> bool:
    """Whether this is code of the same author: of the same package, or of a file that nobody installed."""
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return top in (home, "__main__") or (file is not None and not str(Path(file).resolve()).startswith(_INSTALLED))


def _constant(name: str, value: Any, module: ModuleType) -> str:
    """How a global was assigned where that can be read, else its value if it cannot change; empty if neither."""
    file = getattr(module, "__file__", None)
    for node in _tree("".join(linecache.getlines(file))).body if file else ():
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in [getattr(one, "id", None) for one in targets]:
            return ast.unparse(node)
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not _is_plain(plain) or (plain is value and isinstance(value, list)):  # a list of this moment, such as a cache
        return ""
    text = repr(plain)
    return f"{name} = {text if len(text) < _LONG else hashlib.sha256(text.encode()).hexdigest()}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float | str | bytes)


@lru_cache(maxsize=512)
def _written(one: Any) -> ast.stmt | None:
    """A class or function as it was written, kept since a file may change while its code runs on; None if unknown."""
    try:
        body = _tree(textwrap.dedent(inspect.getsource(one))).body
        found = body[0] if body else None
    except (OSError, TypeError):  # a notebook's classes have no file, but their functions know their cell
        found = _from_cell(one) if isinstance(one, type) else None
    if found is None:
        logger.warning("the source of %s cannot be read, so that an edit of it is not noticed", _address(one))
        return None
    return _plain(found)


def _from_cell(cls: type) -> ast.ClassDef | None:
    functions = [inner for value in vars(cls).values() if (inner := _function(value)) is not None]
    for function in functions:
        tree = _tree("".join(linecache.getlines(function.__code__.co_filename)))
        line = function.__code__.co_firstlineno
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
                continue
            if node.lineno <= line <= (node.end_lineno or 0):
                return node
    return None


def _function(value: Any) -> FunctionType | None:
    """The function inside a method, a property or a decorated one, if it is the author's own."""
    for inside in ("__func__", "fget", "wrapped", "func"):
        value = getattr(value, inside, value)
    return value if isinstance(value, FunctionType) else None


def _plain(written: ast.stmt) -> ast.stmt:
    """Without docstrings."""
    for node in ast.walk(written):
        if isinstance(node, _Written) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return written


@lru_cache(maxsize=64)
def _tree(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError:  # a notebook's magic, or half a file that is being saved
        return ast.Module(body=[], type_ignores=[])


def _address(one: Any) -> str:
    return f"{one.__module__}:{one.__qualname__}"
