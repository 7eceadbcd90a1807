"""Settings such as ``train.steps=300``: changes of a spec written as text.

What enters: a spec and settings. What leaves: another spec. A key is a path into the spec's JSON, a value is YAML.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from unplateau.config import parse
from unplateau.errors import SpecError, suggest
from unplateau.strategies.base import Strategy
from unplateau.train.spec import RunSpec


def split_setting(text: str) -> tuple[str, str]:
    """Key and value of ``a.b=value``. Raises SpecError if there is no key or no ``=``."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"'{text}': a setting is written KEY=VALUE, such as train.steps=300")
    return key.strip(), value.strip()


def read_value(text: str, *, where: str) -> Any:
    """A YAML value: number, text, null, true, [list] or {mapping}. Raises SpecError if it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: '{text}' is not a YAML value; quotes may help") from error


def with_settings(spec: RunSpec, settings: Iterable[tuple[str, Any]]) -> RunSpec:
    """``spec`` with these keys changed, in order. Raises SpecError, naming the key, if the result is no valid spec."""
    data = spec.model_dump(mode="json")
    for key, value in settings:
        # The name of a strategy becomes its parts at once, so that a later setting can reach into them.
        given = parse(Strategy, value, where=key).model_dump(mode="json") if key == "strategy" else value
        _put(data, key, given)
    return parse(RunSpec, data)


def _put(data: Any, key: str, value: Any) -> None:
    """Changes one place of JSON data, which must be there."""
    *parents, last = key.split(".")
    for depth, name in enumerate(parents):
        data = data[_place(data, name, key, depth)]
    data[_place(data, last, key, len(parents))] = value


def _place(data: Any, name: str, key: str, depth: int) -> str | int:
    """``name`` as an index into ``data``. Raises SpecError if there is no such place."""
    parent = ".".join(key.split(".")[:depth]) or "the spec"
    if isinstance(data, dict):
        if name not in data:
            raise SpecError(f"{key}: unknown key '{name}' in {parent}{suggest(name, data)}")
        return name
    if isinstance(data, list):
        if not name.isdecimal() or int(name) >= len(data):
            have = f"0 to {len(data) - 1}" if data else "none: it is empty"
            raise SpecError(f"{key}: no element '{name}' in {parent}; there is {have}")
        return int(name)
    raise SpecError(f"{key}: {parent} is {data!r} and has no key '{name}'")
