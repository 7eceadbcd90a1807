"""Configuration as values: frozen pydantic models that refuse unknown keys with a suggestion.

What enters: keyword arguments, or plain data read from YAML or JSON. What leaves: an immutable, hashable value. A task,
a curriculum or a loss term *is* its own config, so that a run can be written down, hashed and rebuilt.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from unplateau.errors import SpecError, suggest

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """A frozen value whose fields carry their own help; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields and key != "kind":
                    raise ValueError(f"unknown key '{key}' in {cls.__name__}{suggest(str(key), cls.model_fields)}")
        return data

    def digest(self) -> str:
        """Ten hex digits that identify this value (of the canonical JSON, sha256)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class Kind(Config):
    """A config that comes in several kinds, written with its class name under ``kind`` and read back as that class.

    A direct subclass (Task, ItemSource, Curriculum ...) opens a family; every class below it registers itself.
    """

    family: ClassVar[dict[str, type[Kind]]] = {}
    noun: ClassVar[str] = ""
    """What a member of the family is called in messages; its class name if this is empty."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if Kind in cls.__bases__:
            cls.family = {}
        cls.family[cls.__name__] = cls

    @classmethod
    def kinds(cls) -> dict[str, type[Self]]:
        """The concrete classes of this family that may stand where ``cls`` is asked for, by name."""
        return {
            name: member
            for name, member in cls.family.items()
            if issubclass(member, cls) and not member.__abstractmethods__
        }

    @classmethod
    def kind_named(cls, name: str) -> type[Self]:
        """The class called ``name``; ``weights-loss``, ``weights_loss`` and ``WeightsLoss`` are the same name."""
        kinds = cls.kinds()
        folded = {_fold(known): member for known, member in kinds.items()}
        if _fold(name) not in folded:
            raise ValueError(f"unknown {cls.noun or cls.__name__} '{name}'{suggest(name, kinds)}")
        return folded[_fold(name)]

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return handler(data)
        data = dict(data)
        name = data.pop("kind", None)
        if name is None and cls.__abstractmethods__:
            raise ValueError(f"{cls.noun or cls.__name__} needs a 'kind': one of {', '.join(sorted(cls.kinds()))}")
        member = cls if name is None else cls.kind_named(str(name))
        return handler(data) if member is cls else member.model_validate(data)

    @model_serializer(mode="plain")
    def _with_kind(self) -> dict[str, Any]:
        # Not pydantic's own handler: it would write the fields of the annotated class, not of the kind at hand.
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in type(self).model_fields}}


def parse(cls: type[C], data: object, *, where: str = "") -> C:
    """``data`` as a ``cls``; a :class:`SpecError` of one line (what, where, what would be right) if it cannot be."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise SpecError(one_line(error, where=where)) from error


def one_line(error: ValidationError, *, where: str = "") -> str:
    """The first problem of a validation error as one line."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    place = ": ".join(part for part in (where, path) if part)
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    given = first.get("input")
    shown = f" (got {given!r})" if isinstance(given, (str, int, float, bool)) and first["type"] != "value_error" else ""
    return f"{place}: {message}{shown}" if place else f"{message}{shown}"


def _fold(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
