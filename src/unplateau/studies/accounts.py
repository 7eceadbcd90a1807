"""What may be asked for, what each account of plateaus says of it, and how many cells an account got right.

A cell asks for a choice of the three things. An account says which cells end a plateau early; the cells can refute it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from unplateau.strategies.base import Part
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.studies.base import EARLY, PLAIN, Row, Table, early_cells, escapes

THINGS: Mapping[str, Part] = {"items": MatchLoss(), "labels": BindLoss(), "queries": LookLoss()}
"""What may be asked for, and by which term."""
CELLS = tuple(chosen for n in range(len(THINGS) + 1) for chosen in combinations(THINGS, n))
FEWEST = 3
"""Settings that tell how much shares vary between them."""


def cell_name(cell: Sequence[str]) -> str:
    """``plain``, or ``items+queries``."""
    return "+".join(cell) or PLAIN


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

    def needs(self, has: Mapping[str, bool | None]) -> frozenset[str]:
        """The things without which, by this account, the two others do not end a plateau early."""
        others = {thing: tuple(other for other in THINGS if other != thing) for thing in THINGS}
        return frozenset(thing for thing, two in others.items() if self.predicts(two, has) is False)


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


def settings_of(settings: Cells) -> list[Setting]:
    """With what each has shown."""
    return [Setting.of(name, cells) for name, cells in settings.items()]


def escapes_of(
    settings: Cells, *, also: Sequence[str] = (), heading: str = "Median step of the escape (runs that got there)"
) -> Table:
    """When the cells escaped; ``also``: further cells beside the eight."""
    names = [*(cell_name(cell) for cell in CELLS), *also]
    lines = []
    for one in settings_of(settings):
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
    found = settings_of(settings)
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
    return [account.name, account.source, share(every), share(early)]


def share(by_setting: Sequence[tuple[int, int]]) -> str:
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
