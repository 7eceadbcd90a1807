"""Configuration as values: frozen pydantic models that refuse unknown keys with a suggestion.

A task, a curriculum or a loss term *is* its own config, so that a run can be written down, hashed and rebuilt. What
comes in several kinds is found by name where this package exports it, and by address (``package.module:Class``)
where it is somebody's own.
"""

import hashlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from types import ModuleType, NoneType
from typing import Any, ClassVar, Self, TypeGuard, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

import unplateau  # only its lazy names, see Kind.named
from unplateau.errors import SpecError, UnplateauError, in_words, suggest
from unplateau.limits import MOST_INTEGER
from unplateau.sources import gathered_source, is_foreign
from unplateau.terminal import shortened

C = TypeVar("C", bound="Config")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Config(BaseModel):
    """A frozen value whose fields carry their own help; unknown keys are refused.

    Making or copying one that cannot be raises SpecError, one line with the path of keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def __init__(self, **data: Any) -> None:
        with placed():
            super().__init__(**data)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined] # values inside others keep pydantic's own error

    @classmethod
    def model_validate(cls, obj: Any, **settings: Any) -> Self:
        """``obj`` (plain data, or such a value) as a value of this class."""
        with placed():
            return super().model_validate(obj, **settings)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **settings: Any) -> Self:
        """The same of JSON text."""
        with placed():
            return super().model_validate_json(json_data, **settings)

    @classmethod
    def inside(cls, data: Any) -> Self:
        """The same inside a validator, whose own error then has the whole path."""
        return super().model_validate(data)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with these fields changed, checked as if it were made anew."""
        if not update:
            return super().model_copy(deep=deep)
        changed = self.model_validate({**dict(self), **update})
        return changed.model_copy(deep=True) if deep else changed

    def __setattr__(self, name: str, value: Any) -> None:
        raise SpecError(
            f"{type(self).__name__}.{name}: values are never changed; make another one, such as "
            f"spec.with_settings({{'train.steps': 600}}), or model_copy(update={{'{name}': ...}})"
        )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields and key != "kind":
                    raise ValueError(f"unknown key '{key}' in {cls.__name__}{suggest(str(key), cls.model_fields)}")
        return data

    @field_validator("*", mode="wrap")
    @classmethod
    def _refuse_other_numbers(cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """``true`` is no number here, though it is one in Python, and numbers have at most 64 bits."""
        types = _types(cls, info.field_name or "")
        if {int, float} & types and not {bool, Any} & types and any(isinstance(one, bool) for one in _plain(value)):
            raise ValueError(f"expected a number, got {str(value).lower()}")
        if isinstance(value, str) and value != value.strip() and types <= {int, float, NoneType}:
            raise ValueError(f"expected a number, got {value!r}")
        found = read(value)
        if any(abs(number) > MOST_INTEGER for number in _plain(found) if isinstance(number, int)):
            raise ValueError("an integer here has at most 64 bits")
        return found

    def digest(self) -> str:
        """Ten hex digits that identify this value (of the canonical JSON, sha256).

        Where it holds kinds of somebody's own, their source code counts as well: see :func:`sources_of`.
        """
        data = self.model_dump(mode="json")
        if code := sources_of(self):
            data = {"value": data, "code": code}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def _plain(value: Any) -> Iterator[Any]:
    """The value, or what is in a list of them."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _plain(one)
    else:
        yield value


@lru_cache(maxsize=1024)
def _types(cls: type[Config], field: str) -> frozenset[Any]:
    """The types that a field's annotation is made of: truth values, numbers, None, anything; object for any other."""
    known = (bool, int, float, NoneType, Any)
    leaves = list(_leaves(cls.model_fields[field].annotation))
    return frozenset(next((one for one in known if leaf is one), object) for leaf in leaves)


def _leaves(annotation: Any) -> Iterator[Any]:
    inside = [one for one in get_args(annotation) if one is not ...]
    if not inside:
        yield annotation
    for one in inside:
        yield from _leaves(one)


class Kind(Config):
    """A config that comes in several kinds, written with its name under ``kind`` and read back as that class.

    The name alone stands for the kind with its defaults.
    A direct subclass (Task, ItemSource, Part ...) opens a family and is no member of it. Classes below need no
    registration: one that ``unplateau`` exports is written by its name, any other by its address.
    """

    noun: ClassVar[str] = ""
    """What a member of the family is called in messages; its class name if this is empty."""
    usual: ClassVar[str] = ""
    """The exported kind that is meant, and written, without ``kind``; none if this is empty."""
    code_version: ClassVar[str] = ""
    """Of a class of one's own: counts in the place of its source code, which tells runs of an edited class apart."""
    may_import: ClassVar[bool] = True
    """Whether addresses may be looked up in this process: see :func:`refuse_imports`."""

    @classmethod
    def named(cls, name: str, *, besides: Iterable[str] = ()) -> type[Self]:
        """The class of this name or address; ``weights-loss``, ``weights_loss`` and ``WeightsLoss`` are one name.

        ``besides``: what else would have been right, for the message.
        Raises ValueError, one line, if there is none, or it is abstract or of another family.
        """
        noun = cls.noun or cls.__name__
        if ":" in name:
            member = at_address(name)
            if not cls._has_member(member):
                raise ValueError(f"'{name}' is no {noun}: it must be a class below {cls.__name__} and not abstract")
            return member
        plain = name.replace("-", "").replace("_", "").lower()
        member = next((getattr(unplateau, known) for known in dir(unplateau) if known.lower() == plain), None)
        if not cls._has_member(member):
            hint = suggest(name, [*cls._exported(), *besides], otherwise="your own: package.module:Class")
            raise ValueError(f"unknown {noun} '{name}'{hint}")
        return member

    @classmethod
    def written_as(cls) -> str:
        """What :meth:`named` finds this class by."""
        exported = getattr(unplateau, cls.__name__, None) is cls
        return cls.__name__ if exported else f"{cls.__module__}:{cls.__qualname__}"

    def check(self) -> None:
        """Reads what this value needs from files, which making it does not, and refuses what cannot work with it.

        Raises ValueError (one line; the path of keys is put in front of it), or an error of ``unplateau.errors``.
        """

    def data_bytes(self) -> int:
        """Bytes of memory that what this value stands for takes at least, told before any of it is made; 0: few.

        Of what is in its fields, those tell themselves.
        """
        return 0

    @classmethod
    def _is_open(cls) -> bool:
        return Kind in cls.__bases__ or inspect.isabstract(cls)

    @classmethod
    def _has_member(cls, value: object) -> TypeGuard[type[Self]]:
        return isinstance(value, type) and issubclass(value, cls) and not value._is_open()

    @classmethod
    def _exported(cls) -> list[str]:
        return [name for name in dir(unplateau) if name[0].isupper() and cls._has_member(getattr(unplateau, name))]

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        name = None
        if isinstance(data, str):
            data = {"kind": data}
        if isinstance(data, dict):
            data = dict(data)
            name = data.pop("kind", None)
        if name is None and cls._is_open() and not isinstance(data, cls):
            if isinstance(data, dict) and not cls.usual:
                kinds = ", ".join(cls._exported()) or "package.module:Class"
                raise ValueError(f"{cls.noun or cls.__name__} needs a 'kind': one of {kinds}")
            name = cls.usual or None
        member = cls if name is None else cls.named(str(name))
        return handler(data) if member is cls else member.inside(data)

    @model_serializer(mode="plain")
    def _with_kind(self) -> dict[str, Any]:
        # Not pydantic's own handler: it would write the fields of the annotated class, not of the kind at hand.
        fields = {
            name: value
            for name, info in type(self).model_fields.items()
            for value in (getattr(self, name),)
            if info.exclude_if is None or not info.exclude_if(value)
        }
        name = self.written_as()
        return fields if name == self.usual else {"kind": name, **fields}


def refuse_imports() -> None:
    """From now on nothing that a spec or a command names by its address is looked up in this process."""
    Kind.may_import = False


def at_address(address: str) -> Any:
    """What ``package.module:name`` names, imported if need be, also from the current folder.

    That runs code which a file may have named, so a line says so, once a module. Raises ValueError, one line, if there
    is no such thing or :func:`refuse_imports` was called.
    """
    module, _, path = address.partition(":")
    if not Kind.may_import:
        raise ValueError(f"'{address}' would have to be imported, which --no-import refuses")
    if not all(name.isidentifier() for name in (*module.split("."), *path.split("."))):
        raise ValueError(f"'{address}' is no address: it is written package.module:Class")
    try:
        return attrgetter(path)(sys.modules.get(module) or _imported(module, address))
    except AttributeError:
        raise ValueError(f"module '{module}' has no '{path}'" if module != "__main__" else in_script(path)) from None


def made_at(address: str, wanted: type[T]) -> T | None:
    """What the function at this address returns; None if it is none, needs arguments, or returns something else.

    Raises SpecError as :func:`at_address` does ValueError, and for a function that fails.
    """
    with placed():
        own = at_address(address)
    if not (callable(own) and _takes_nothing(own)):
        return None
    try:
        made = own()
    except UnplateauError:
        raise
    except Exception as error:
        raise SpecError(f"'{address}' failed: {in_words(error)}") from error
    return made if isinstance(made, wanted) else None


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # needs arguments, or does not say
        return False
    return True


def in_script(name: str) -> str:
    """What is said of a class that another process cannot import."""
    return f"{name} is defined in the script itself; move it to a module that can be imported"


def _imported(module: str, address: str) -> ModuleType:
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # which ``python -m`` does and an installed program does not
    try:
        if find_spec(module.partition(".")[0]):  # else nothing is run, and the error says it all
            logger.warning("importing %s, which '%s' names (--no-import refuses it)", module, address)
        return import_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"module '{module}' cannot be imported ({in_words(error)})") from error


def parts_of(value: object, *path: str) -> Iterator[tuple[str, Config]]:
    """Every config inside a value and then itself, each with its path of keys."""
    if isinstance(value, Config):
        for name in type(value).model_fields:
            yield from parts_of(getattr(value, name), *path, name)
        yield ".".join(path), value
    elif isinstance(value, tuple | list):
        for number, one in enumerate(value):
            yield from parts_of(one, *path, str(number))


def sources_of(value: Config) -> dict[str, str]:
    """The code of all kinds inside that are not from this package, by address; empty if there is none."""
    kinds = {type(one): None for _, one in parts_of(value) if isinstance(one, Kind) and is_foreign(type(one))}
    return {address: text for kind in kinds for address, text in gathered_source(kind).items()}


@contextmanager
def placed(*places: str) -> Iterator[None]:
    """Turns a ValueError into a :class:`SpecError` that begins with these places."""
    try:
        yield
    except SpecError:
        raise
    except ValueError as error:
        message = one_line(error) if isinstance(error, ValidationError) else str(error)
        raise SpecError(": ".join(part for part in (*places, message) if part)) from error


def parse(cls: type[C], data: object, *, where: str = "") -> C:
    """``data`` as a ``cls``; a :class:`SpecError` of one line (what, where, what would be right) if it cannot be."""
    with placed(where):
        return cls.inside(data)


def one_line(error: ValidationError) -> str:
    """The first problem of a validation error as one line."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    given = first.get("input")
    if isinstance(given, str | int | float) and first["type"] != "value_error":
        message += f" (got {_repr(given)})"
    return f"{path}: {message}" if path else message


def _repr(value: str | float) -> str:
    """As Python writes it, without its middle where it is long."""
    if isinstance(value, int) and value.bit_length() > 256:
        return "an integer of many digits"
    return repr(shortened(value, 80) if isinstance(value, str) else value)
