"""What tells runs apart beside their seeds: the strategy, and every setting in which they differ.

How often a run looks at itself decides nothing of what it learns, and its length is what censoring is for: these count
only where nothing else tells two runs of one seed apart.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unplateau.analysis.runs import RunSummary

LEARNT = ("recipe", "task", "cut")
"""Settings that say what is learnt, or looked at; the others say how."""
_COMPARED = ("recipe", "task", "model", "train", "cut", "grafts")
_CADENCE = (
    *("steps", "eval_every", "eval_prompts", "probe_every", "probe_prompts"),
    *("checkpoint_every", "final_prompts"),
)
_LONGEST = 24
"""Letters of a value that is shown as it is; of a longer one a few digits of its hash."""
_ABSENT = object()


@dataclass(frozen=True)
class Variant:
    """Strategy and, by full key, the settings in which these runs differ from others, as texts."""

    strategy: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """``mixed``, or ``mixed, lr=0.001``."""
        keys = shortened([key for key, _ in self.settings])
        return ", ".join([self.strategy, *(f"{keys[key]}={value}" for key, value in self.settings)])

    @property
    def learns(self) -> tuple[tuple[str, str], ...]:
        """The settings among them that say what is learnt."""
        return tuple(pair for pair in self.settings if pair[0].partition(".")[0] in LEARNT)

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts by settings, numbers by their size, and then by strategy."""
        return tuple(_size(value) for _, value in self.settings), self.strategy


def variants(runs: Sequence[RunSummary]) -> list[Variant]:
    """The variant of each of these runs."""
    told = _told_apart(runs, cadence=False)
    if len({(variant, run.seed) for variant, run in zip(told, runs, strict=True)}) < len(runs):
        return _told_apart(runs, cadence=True)
    return told


def shortened(keys: Iterable[str]) -> dict[str, str]:
    """Full keys with their last part alone where no other key ends in it."""
    every = list(keys)
    ends = [key.rpartition(".")[2] for key in every]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(every, ends, strict=True)}


def _told_apart(runs: Sequence[RunSummary], *, cadence: bool) -> list[Variant]:
    found = dict(_differences("", [_settings(run.record.spec, cadence=cadence) for run in runs]))
    if "recipe" in found:  # it has a name for what all of its runs share
        recipes = found["recipe"]
        kept = {key: values for key, values in found.items() if _splits(values, recipes)}
        found = {"recipe": recipes, **kept}
    return [
        Variant(run.strategy, tuple((key, values[number]) for key, values in found.items()))
        for number, run in enumerate(runs)
    ]


def _settings(spec: Mapping[str, Any], *, cadence: bool) -> dict[str, Any]:
    chosen = {name: spec[name] for name in _COMPARED if name in spec}
    if "train" in chosen and not cadence:
        chosen["train"] = {name: value for name, value in chosen["train"].items() if name not in _CADENCE}
    return chosen


def _splits(values: Sequence[str], groups: Sequence[str]) -> bool:
    """Whether some group has several of these values."""
    return len(set(zip(groups, values, strict=True))) > len(set(groups))


def _differences(path: str, values: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    """Keys under which these values differ, each with the text of every one."""
    if len({_canonical(value) for value in values}) == 1:
        return
    if (
        all(isinstance(value, Mapping) for value in values)
        and len({_canonical(value.get("kind")) for value in values}) == 1
    ):
        for key in dict.fromkeys(key for value in values for key in value):
            inside = f"{path}.{key}" if path else key
            yield from _differences(inside, [value.get(key, _ABSENT) for value in values])
        return
    texts = [_text(value) for value in values]
    meant: dict[str, set[str]] = {}
    for text, value in zip(texts, values, strict=True):
        meant.setdefault(text, set()).add(_canonical(value))
    yield (
        path,
        [
            f"{text} ({_hash(value)})" if len(meant[text]) > 1 else text
            for text, value in zip(texts, values, strict=True)
        ],
    )


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "default"
    if isinstance(value, Mapping):
        return str(value.get("kind", "ModelConfig"))  # which alone is written without one
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else _hash(value)


def _canonical(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _hash(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:6]


def _size(text: str) -> tuple[float, str]:
    number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text)
    return (float(text), "") if number and text.count(".") < 2 else (float("inf"), text)
