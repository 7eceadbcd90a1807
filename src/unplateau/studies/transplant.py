"""Transplants: the crossing again, with weights in the place of losses.

A run on its plateau is given modules of one that has escaped: those that make an item's own state, those that bind
labels, those by which queries look. And back: a run that has escaped is given modules of one on its plateau, and has to
escape again. docs/cards/transplant.md says beforehand what each account predicts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from unplateau.strategies.strategy import Strategy
from unplateau.studies.accounts import (
    ACCOUNTS,
    CELLS,
    THINGS,
    Cells,
    Setting,
    cell_name,
    escapes_of,
    share,
    verdicts_of,
)
from unplateau.studies.base import (
    HELD,
    LONGER,
    PLAIN,
    REFUTED,
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
from unplateau.studies.tasks import TASKS
from unplateau.train.spec import Graft, RunSpec

MODULES: Mapping[str, tuple[str, ...]] = {
    "items": ("item_embedding", "blocks.0.mlp_norm", "blocks.0.expand", "blocks.0.contract"),
    "labels": ("blocks.0.attention_norm", "blocks.0.attention"),
    "queries": ("blocks.1.attention_norm", "blocks.1.attention"),
}
"""Where a model of few blocks has each of the three, if it has learnt it where the losses ask for it."""
ON_PLATEAU, ESCAPED, AFTER, BACK = 300, 600, 600, 400
"""Steps of plain training to the plateau, of the strategy to beyond its escape, and after a transplant."""
INTO, OUT = "into a plateau", "back"
DONORS = "donors"
CONTROLS = tuple(f"{thing}, control" for thing in MODULES)
OTHER = 1000
"""Added to the seed of the run on its plateau whose modules are the control."""


class Transplant(Study):
    """Eight cells of modules on all tasks but those of words."""

    name = "transplant"
    question = "Which modules of a run that has escaped end the plateau of one that has not?"
    parts = tuple(task for task in TASKS if task not in ("words", "word-selection"))

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """Donors first, then all cells of a task; scale ``paper`` goes on four times as long."""
        longer, chosen, wanted = LONGER[scale], self.chosen(only), list(seeds)
        donors = [Planned(DONORS, task, spec) for task in chosen for seed in wanted for spec in _donors(task, seed)]
        return donors + [one for task in chosen for seed in wanted for one in _cells(task, seed, longer)]

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """The crossing's tables for transplants into a plateau; how long the way back takes."""
        settings = by_cell(rows)
        into = {name: cells for name, cells in settings.items() if name.endswith(INTO)}
        back = {name: cells for name, cells in settings.items() if name.endswith(OUT)}
        return [
            escapes_of(into, also=CONTROLS),
            verdicts_of(into),
            _controls_of(into),
            escapes_of(back, heading="Median step by which a run that had escaped has escaped again"),
            _ways_back(into, back),
        ]


def _controls_of(into: Cells) -> Table:
    """Modules of another run on its plateau should not end a plateau early."""
    lines = [
        [setting, name, "not early", escapes(cells[name]), REFUTED if name in early_cells(cells) else HELD]
        for setting, cells in into.items()
        for name in CONTROLS
        if name in cells
    ]
    columns = ["setting", "modules", "predicted", "median step of the escape", "verdict"]
    return Table("Modules of another run on its plateau", columns, lines)


def _ways_back(into: Cells, back: Cells) -> Table:
    """Of each account, in how many cells the things that it calls needed cost steps, and others none."""
    told = {setting: cells for setting, cells in back.items() if setting.replace(OUT, INTO) in into}
    names = [cell_name(cell) for cell in CELLS[1:]]
    costly = [_costs_steps(cells, name) for cells in told.values() for name in names if name in cells]
    lines = []
    for account in ACCOUNTS:
        right = []
        for setting, cells in told.items():
            there = setting.replace(OUT, INTO)
            needs = account.needs(Setting.of(there, into[there]).has)
            known = [cell for cell in CELLS[1:] if cell_name(cell) in cells]
            agrees = [bool(needs & {*cell}) is _costs_steps(cells, cell_name(cell)) for cell in known]
            right.append((sum(agrees), len(known)))
        lines.append([account.name, share(right)])
    lines.append(["the commoner answer", f"{max(costly.count(True), costly.count(False))} of {len(costly)}"])
    note = (
        "Right: cells with a thing that it calls needed escape again later than without any change, and others do not."
    )
    return Table("What each account said of the way back", ["account", "cells right"], lines, note)


def _costs_steps(cells: Mapping[str, Sequence[Row]], cell: str) -> bool:
    return escape_of(cells[cell]).low > escape_of(cells[PLAIN]).low


def _plain(task: str, seed: int, steps: int) -> RunSpec:
    plain = TASKS[task]()
    train = plain.train.model_copy(update={"steps": steps, "probe_every": 100})
    return plain.model_copy(update={"recipe": f"transplant-{task}", "train": train, "seed": seed})


def _donors(task: str, seed: int) -> tuple[RunSpec, RunSpec, RunSpec]:
    """A run on its plateau, one that has escaped, and another on its plateau."""
    escaped = _plain(task, seed, ESCAPED).with_strategy(Strategy(*THINGS.values()))
    return _plain(task, seed, ON_PLATEAU), escaped, _plain(task, seed + OTHER, ON_PLATEAU)


def _cells(task: str, seed: int, longer: int) -> Iterator[Planned]:
    flat, escaped, other = _donors(task, seed)

    def grown(base: RunSpec, steps: int, donor: RunSpec, things: Sequence[str]) -> RunSpec:
        modules = tuple(name for thing in things for name in MODULES[thing])
        grafts = (Graft(donor=base), *((Graft(donor=donor, modules=modules),) if modules else ()))
        return _plain(task, seed, steps).model_copy(update={"grafts": grafts})

    for cell in CELLS:
        yield Planned(f"{task}, {INTO}", cell_name(cell), grown(flat, longer * AFTER, escaped, cell))
    for thing, name in zip(MODULES, CONTROLS, strict=True):
        yield Planned(f"{task}, {INTO}", name, grown(flat, longer * AFTER, other, [thing]))
    for cell in CELLS:
        yield Planned(f"{task}, {OUT}", cell_name(cell), grown(escaped, longer * BACK, flat, cell))
