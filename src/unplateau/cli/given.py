"""What a command is given as RECIPE|SPEC and ``--set``.

What enters: the name of a recipe or of a file, and settings. What leaves: a spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unplateau import recipes
from unplateau.errors import SpecError
from unplateau.train.spec import RunSpec, read_spec, read_value, spec_of, split_setting, with_settings

SUFFIXES = (".yaml", ".yml", ".json")


def given_spec(name: str, settings: Sequence[str], seed: int | None = None) -> RunSpec:
    """The recipe or the spec file of this name, with settings. Raises SpecError, one line, if something is wrong."""
    is_file = name.endswith(SUFFIXES)
    spec = with_given(read_spec(Path(name)) if is_file else spec_of(recipes.recipe(name)), settings)
    return spec if seed is None else with_settings(spec, [("seed", seed)])


def with_given(spec: RunSpec, settings: Sequence[str]) -> RunSpec:
    """The spec with settings as ``--set`` gives them. Raises SpecError, one line, if something is wrong."""
    pairs = [split_setting(text) for text in settings]
    return with_settings(spec, [(key, read_value(value, where=key)) for key, value in pairs])


def seeds_from(first: int, count: int) -> range:
    """``count`` seeds from ``first`` on. Raises SpecError if that is none, or a negative one."""
    if count < 1 or first < 0:
        raise SpecError(f"--seeds must be at least 1 and --first-seed at least 0 (got {count} and {first})")
    return range(first, first + count)
