"""What a sweep has shown so far, setting by setting, while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unplateau.cli.console import print_table
from unplateau.config import Kind
from unplateau.damage import DAMAGE
from unplateau.store import is_done, load_run
from unplateau.terminal import shortened

if TYPE_CHECKING:
    from unplateau.analysis.survival import Bounded
    from unplateau.store import RunState
    from unplateau.train.spec import Axis, RunSpec

LONGEST = 24
"""Letters of a value in the name of a setting."""
COLUMNS = ("setting", "finished", "escaped", "median escape", "median completion", "censored")


class Results:
    """When the finished runs of each setting have escaped; of a run nothing but these times is kept."""

    def __init__(self, specs: Sequence[RunSpec], axes: Sequence[Axis], out: Path) -> None:
        self._steps = {spec.directory(out): spec.train.steps for spec in specs}
        self._settings = dict(zip(self._steps, settings_of(specs, axes), strict=True))
        self._members: dict[str, list[Path]] = {}
        for path, name in self._settings.items():
            self._members.setdefault(name, []).append(path)
        self._times: dict[Path, tuple[Bounded, Bounded] | None] = {}

    def line(self, run: RunState) -> str:
        """Of the setting of this run, which has ended: ``mixed: 2 of 3 done, escaped 1 (50 %), median ...``."""
        name, done, escaped, escape, completion, censored = self._row(self._settings[run.path])
        return (
            f"{name}: {done} done, {escaped} escaped; median escape {escape}, completion {completion}; "
            f"{censored} censored"
        )

    def print(self) -> None:
        """A table with a row for each setting."""
        print_table(COLUMNS, [self._row(name) for name in self._members])

    def _row(self, name: str) -> tuple[str, ...]:
        from unplateau.analysis.survival import median_time  # noqa: PLC0415 (scipy)

        members = self._members[name]
        times = [found for path in members if (found := self._of(path))]
        done = f"{len(times)} of {len(members)}"
        if not times:
            return name, done, "-", "-", "-", "-"
        n_escaped = sum(escape.exact for escape, _ in times)
        return (
            name,
            done,
            f"{100 * n_escaped / len(times):.0f} %",
            median_time([escape for escape, _ in times]).shown(),
            median_time([completion for _, completion in times]).shown(),
            str(len(times) - n_escaped),
        )

    def _of(self, path: Path) -> tuple[Bounded, Bounded] | None:
        """Escape and completion of a finished run; None while it is not, or if it cannot be read."""
        from unplateau.analysis.runs import summarise_run  # noqa: PLC0415 (scipy)

        if path not in self._times and is_done(path, self._steps[path]):
            try:
                run = summarise_run(load_run(path))
                self._times[path] = run.time_of("escape"), run.time_of("completion")
            except DAMAGE:  # the list of runs, at the end, says so
                self._times[path] = None
        return self._times.get(path)


def settings_of(specs: Sequence[RunSpec], axes: Sequence[Axis]) -> list[str]:
    """``mixed, lr=0.001``: the strategy of each, and the values of the axes; in full where two would look alike."""
    keys = [key for key, _ in axes if key != "strategy"]
    values = [(spec.strategy, *(_at(spec, key) for key in keys)) for spec in specs]
    meant = [repr(one) for one in values]
    for longest in (LONGEST, None):
        names = [
            ", ".join([strategy.name, *(_in_words(key, one, longest) for key, one in zip(keys, others, strict=True))])
            for strategy, *others in values
        ]
        if len(set(zip(names, meant, strict=True))) == len(set(names)):
            return names
    return [f"{name} {strategy!r}" for name, (strategy, *_) in zip(names, values, strict=True)]


def _in_words(key: str, value: Any, longest: int | None) -> str:
    """A key and its value, the name of a kind first."""
    words = f"{type(value).__name__} {value}".strip() if isinstance(value, Kind) else str(value)
    return f"{key.rpartition('.')[2]}={words if longest is None else shortened(words, longest)}"


def _at(spec: Any, key: str) -> Any:
    value = spec
    for name in key.split("."):
        value = value[int(name)] if isinstance(value, tuple | list) else _inside(value, name)
    return value


def _inside(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, dict) else getattr(value, name)
