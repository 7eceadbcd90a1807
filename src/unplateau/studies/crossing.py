"""The crossing: is it the representation, the attention pattern, or do three things have to come together?

Each of eight cells asks for another choice of the three: items that stand out (MatchLoss), labels that are bound to
their items (BindLoss), queries that look (LookLoss). An account of plateaus says which cells end one early; the cells
can refute it. docs/cards/crossing.md says all this beforehand.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
from scipy import stats

from unplateau import recipes
from unplateau.items.codes import RandomCodes
from unplateau.probe.diagnose import LINES, ORDER
from unplateau.strategies.base import Part
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
from unplateau.studies.base import (
    EARLY,
    LONGER,
    PLAIN,
    Planned,
    Row,
    Scale,
    Study,
    Table,
    by_cell,
    early_cells,
    escape_of,
    escapes,
)
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec

THINGS: Mapping[str, Part] = {"items": MatchLoss(), "labels": BindLoss(), "queries": LookLoss()}
"""What may be asked for, and by which term."""
CELLS = tuple(chosen for n in range(len(THINGS) + 1) for chosen in combinations(THINGS, n))
FEWEST = 3
"""Settings that tell how much shares vary between them."""
DEEP = 6
"""Blocks of the deep models; the shallow ones are those of the recipes, of two or three."""


def hues() -> RunSpec:
    """The images of ``shapes``, of which a prompt hides one of the two hues of the background."""
    plain = recipes.shapes()
    hidden = {"hidden": ("floor_hue", "wall_hue")}
    return plain.model_copy(update={"recipe": "two-hues", "task": plain.task.model_copy(update=hidden)})


def codes() -> RunSpec:
    """Codes of a random network, of whose three factors a prompt hides one."""
    return RunSpec(recipe="random-codes", task=FactorTask(source=RandomCodes(), n_pairs=16))


TASKS: Mapping[str, Callable[[], RunSpec]] = {
    "shapes": recipes.shapes,
    "two-hues": hues,
    "random-codes": codes,
    "words": recipes.words,
    "word-selection": recipes.word_selection,
    "recall": recipes.recall,
    "clusters": recipes.clusters,
    "regression": recipes.regression,
    "parity": recipes.parity,
}
"""Those of docs/results.md."""
STEPS = 1000
"""Of plain training; other cells have a share of ``EARLY``: by then it is known whether they end the plateau early."""


class Crossing(Study):
    """Eight cells on nine tasks, with shallow and deep models, under both initialisations."""

    name = "crossing"
    question = "Does a plateau last for want of items that stand out, of bound labels, of queries that look, or of all?"
    parts = tuple(TASKS)
    sizes: ClassVar[Mapping[str, tuple[str, int | None]]] = {
        f"{depth}, {init}": (init, None if depth == "shallow" else DEEP)
        for depth in ("shallow", "deep")
        for init in ("scaled", "gpt2")
    }

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """All cells of a setting beside each other; scale ``paper`` trains four times as long."""
        return [
            Planned(
                f"{task}, {size}", cell_name(cell), _spec(task, init, n_layers, cell, LONGER[scale]).with_seed(seed)
            )
            for size, (init, n_layers) in self.sizes.items()
            for task in self.chosen(only)
            for seed in seeds
            for cell in CELLS
        ]

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """When each cell escaped, and how many cells each account got right."""
        settings = by_cell(rows)
        return [escapes_of(settings), verdicts_of(settings), _named(_settings(settings))]


def cell_name(cell: Sequence[str]) -> str:
    """``plain``, or ``items+queries``."""
    return "+".join(cell) or PLAIN


def _spec(task: str, init: str, n_layers: int | None, cell: Sequence[str], longer: int) -> RunSpec:
    plain = TASKS[task]()
    layers = plain.model.n_layers if n_layers is None else n_layers
    model = plain.model.model_copy(update={"init": init, "n_layers": layers})
    steps = longer * STEPS if not cell else round(EARLY * longer * STEPS)
    train = plain.train.model_copy(update={"steps": steps, "probe_every": 100})
    spec = plain.model_copy(update={"recipe": f"{task}-{init}-{layers}", "model": model, "train": train})
    return spec.with_strategy(Strategy(*(THINGS[thing] for thing in cell)))


@dataclass(frozen=True)
class Setting:
    """What the cells of one setting have shown: ``cells`` by name, ``early``: those that ended the plateau early.

    ``has``: of each thing, whether plain training has it on its plateau by its own score; None where that is not known.
    """

    name: str
    cells: Mapping[str, Sequence[Row]]
    early: frozenset[str]
    has: Mapping[str, bool | None]

    @classmethod
    def of(cls, name: str, cells: Mapping[str, Sequence[Row]]) -> "Setting":
        """From the rows of its cells, plain training among them."""
        has = {thing: _mostly_met(cells[PLAIN], thing) for thing in THINGS}
        return cls(name, cells, early_cells(cells), has)


SCORES = {"items": "few_shot", "labels": "binding", "queries": "look"}
"""By which column of a row each thing is measured."""


def _met(row: Row, thing: str) -> bool | None:
    score = getattr(row, SCORES[thing])
    return None if score is None else score.met


def _mostly_met(rows: Sequence[Row], thing: str) -> bool | None:
    found = [met for row in rows if (met := _met(row, thing)) is not None]
    return None if not found else sum(found) > len(found) / 2


@dataclass(frozen=True)
class Account:
    """Which cells end a plateau early, said before: ``predicts(cell, has)``; None where it says nothing."""

    name: str
    source: str
    predicts: Callable[[Sequence[str], Mapping[str, bool | None]], bool | None]


def _representation(cell: Sequence[str], has: Mapping[str, bool | None]) -> bool:
    del has
    return "items" in cell


def _attention(cell: Sequence[str], has: Mapping[str, bool | None]) -> bool:
    del has
    return "queries" in cell


def _circuit(cell: Sequence[str], has: Mapping[str, bool | None]) -> bool:
    del has
    return "labels" in cell and "queries" in cell


def _all_three(cell: Sequence[str], has: Mapping[str, bool | None]) -> bool | None:
    missing = [has[thing] for thing in THINGS if thing not in cell]
    if False in missing:
        return False
    return None if None in missing else True


ACCOUNTS = (
    Account("representation first", "Fu et al. 2024", _representation),
    Account("attention pattern first", "arXiv 2506.13688, 2606.25010", _attention),
    Account("induction circuit first", "Olsson et al. 2022; arXiv 2505.17863", _circuit),
    Account("all three together", "docs/concepts/three_things.md", _all_three),
)


Cells = Mapping[str, Mapping[str, Sequence[Row]]]
"""The rows of each setting by cell."""


def _settings(settings: Cells) -> list[Setting]:
    return [Setting.of(name, cells) for name, cells in settings.items()]


def escapes_of(
    settings: Cells, *, also: Sequence[str] = (), heading: str = "Median step of the escape (runs that got there)"
) -> Table:
    """When the cells escaped; ``also``: further cells beside the eight."""
    names = [*(cell_name(cell) for cell in CELLS), *also]
    lines = []
    for one in _settings(settings):
        cells = []
        for name in names:
            rows = one.cells.get(name, ())
            cells.append(escapes(rows) + ("*" if name in one.early else "") if rows else "")
        lines.append([one.name, *cells, _having(one.has)])
    note = f"* by {EARLY:g} of plain training's median, or of its last step. plain has: by its scores on the plateau."
    return Table(heading, ["setting", *names, "plain has"], lines, note)


def _having(has: Mapping[str, bool | None]) -> str:
    return ", ".join(thing if met else f"no {thing}" for thing, met in has.items() if met is not None) or "?"


def verdicts_of(settings: Cells) -> Table:
    """How many of the seven cells each account got right."""
    found = _settings(settings)
    lines = [_verdict(account, found) for account in ACCOUNTS]
    names = [cell_name(cell) for cell in CELLS[1:]]
    happened = [name in one.early for one in found for name in names if name in one.cells]
    commoner = max(sum(happened), len(happened) - sum(happened))
    lines.append(["the commoner answer", "", f"{commoner} of {len(happened)}", ""])
    note = "95 % intervals over settings, whose cells are not independent; none for fewer than three."
    columns = ["account", "source", "cells right", "of those that ended early"]
    return Table("What each account said of the cells", columns, lines, note)


def _verdict(account: Account, settings: Sequence[Setting]) -> list[str]:
    """How many cells it got right, of all and of those that ended early."""
    every, early = [], []
    for one in settings:
        said = {name: account.predicts(cell, one.has) for cell in CELLS[1:] if (name := cell_name(cell)) in one.cells}
        known = {name: predicted for name, predicted in said.items() if predicted is not None}
        every.append((sum(predicted == (name in one.early) for name, predicted in known.items()), len(known)))
        early.append((sum(known[name] for name in known if name in one.early), len(one.early & known.keys())))
    return [account.name, account.source, _share(every), _share(early)]


def _named(settings: Sequence[Setting]) -> Table:
    """Runs that were asked for two things and lack the third: does its score say so?

    That they lack it is known from the cells: with these two most runs stay flat to the end, and all three end the
    plateau early.
    """
    lines = []
    for thing in THINGS:
        others = tuple(other for other in THINGS if other != thing)
        lacking = [one for one in settings if _is_flat(one, others) and cell_name(tuple(THINGS)) in one.early]
        told = [[first_missing(row) for row in one.cells[cell_name(others)]] for one in lacking]
        right = [(sum(name == thing for name in names), len(names)) for names in told]
        wrong = sum(name not in (thing, None) for names in told for name in names)
        lines.append([thing, "+".join(others), _share(right), f"{wrong}"])
    note = (
        "By the scores halfway to the end, as diagnose reads them. Made on purpose: most runs of the two things that "
        "are asked for stay flat, and all three end the plateau early."
    )
    columns = ["what is missing", "asked for", "runs of which it is named", "another is named"]
    return Table("Bottlenecks made on purpose", columns, lines, note)


def _is_flat(setting: Setting, cell: Sequence[str]) -> bool:
    """Whether most runs of a cell, which is there, stay on their plateau to the end."""
    rows = setting.cells.get(cell_name(cell), ())
    return bool(rows) and math.isinf(escape_of(rows).high)


def first_missing(row: Row) -> str | None:
    """In the order items, labels, kept labels, queries; None where nothing that can be told is missing."""
    if row.binding is None and row.look is None:  # lists of words
        return None
    columns = {**SCORES, "kept labels": "keep"}
    for thing in ORDER[:-1]:
        score = getattr(row, columns[thing])
        if score is not None and not score.reaches(LINES[thing]):
            return thing
    return None


def _share(by_setting: Sequence[tuple[int, int]]) -> str:
    """``12 of 14 (0.72 to 0.99)`` of the right ones and all of each setting."""
    right, of = np.array([pair for pair in by_setting if pair[1]]).reshape(-1, 2).T
    if not of.sum():
        return "-"
    text, share, n = f"{right.sum()} of {of.sum()}", right.sum() / of.sum(), len(of)
    if n < FEWEST:
        return text
    error = np.sqrt(((right - share * of) ** 2).sum() * n / (n - 1)) / of.sum()
    reach = error * stats.t.ppf(0.975, n - 1)
    return f"{text} ({max(0.0, share - reach):.2f} to {min(1.0, share + reach):.2f})"
