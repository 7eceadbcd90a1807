"""What the reference makes of docstrings: settings, which say what they are at their fields, are listed with these."""

import re
import types
import typing
from typing import Any

from numpy.typing import ArrayLike
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.typing import stringify_annotation


def signature(
    _app: Any, _what: str, _name: str, obj: object, _options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Classes of settings have none, their fields follow; aliases have their names."""
    return ("", "") if is_settings(obj) else (named(arguments), named(returned))


def named(text: str | None) -> str | None:
    """With ``ArrayLike`` for all that NumPy means by it."""
    for mode in ("smart", "fully-qualified-except-typing"):
        text = text and text.replace(stringify_annotation(ArrayLike, mode), "ArrayLike")
    return text


def docstring(_app: Any, what: str, _name: str, obj: object, _options: object, lines: list[str]) -> None:
    """Reads ``Args:`` and ``Raises:``; adds the fields of a class of settings, with type, default and description."""
    if what in ("class", "function", "method"):  # in a property what stands before a colon would be taken for its type
        lines[:] = GoogleDocstring(lines, Config()).lines()
    if what == "class" and is_settings(obj):
        fields: dict[str, FieldInfo] = obj.model_fields  # type: ignore[attr-defined]
        for name, field in fields.items():
            if name != "kind":
                lines += ["", f":param {name}: {field.description or ''}{default_of(field)}"]
                lines += [f":type {name}: {type_of(field.annotation)}"]
        lines.append("")


def is_settings(obj: object) -> bool:
    """Whether this is a pydantic class."""
    return isinstance(obj, type) and issubclass(obj, BaseModel)


def default_of(field: FieldInfo) -> str:
    """In brackets: the default, or that there has to be a value."""
    if field.is_required():
        return " (required)"
    if field.default_factory is not None:
        return ""
    return f" (default: ``{field.default!r}``)" if len(repr(field.default)) < 60 else ""


def type_of(annotation: Any) -> str:
    """The annotation as one would write it, without the metadata of pydantic."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (None, types.NoneType, Ellipsis):
        return "..." if annotation is Ellipsis else "None"
    if origin is typing.Annotated:
        return type_of(inside[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, inside))
    if origin:
        parts = [*map(type_of, inside)]
        return (
            " | ".join(parts) if origin in (typing.Union, types.UnionType) else f"{origin.__name__}[{', '.join(parts)}]"
        )
    return getattr(annotation, "__name__", None) or re.sub(r"^typing\.", "", str(annotation))


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
    return {"parallel_read_safe": True}
