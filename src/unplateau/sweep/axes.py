"""The grid of a sweep: every combination of the values of its axes, times seeds.

What enters: a spec, axes such as ``train.lr=1e-3,1e-2`` and seeds. What leaves: specs, the last axis changing fastest
but for the seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from unplateau.errors import SpecError
from unplateau.sweep.settings import read_value, split_setting, with_settings
from unplateau.train.spec import RunSpec

Axis = tuple[str, tuple[Any, ...]]


def read_axis(text: str) -> Axis:
    """Key and values of ``a.b=v1,v2``; the values form a YAML list, so brackets and quotes protect a comma."""
    key, values = split_setting(text)
    found = read_value(f"[{values}]", where=f"axis {key}")
    if not found:
        raise SpecError(f"axis {key}: it needs at least one value, such as {key}=1,2")
    return key, tuple(found)


def expand(spec: RunSpec, axes: Sequence[Axis], seeds: Iterable[int]) -> list[RunSpec]:
    """The specs of all combinations, without repetitions. Raises SpecError if an axis comes twice or one is invalid."""
    keys = [key for key, _ in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise SpecError(f"axis {key}: given twice; write all its values in one, separated by commas")
    combinations = [with_settings(spec, zip(keys, values, strict=True)) for values in product(*(v for _, v in axes))]
    every = [one.with_seed(seed) for one in combinations for seed in seeds]
    return list({one.digest(): one for one in every}.values())
