"""Transplants: the crossing again, with weights in the place of losses.

A run on its plateau is given modules of one that has escaped: those that make an item's own state, those that bind
labels, those by which queries look. And back: a run that has escaped is given modules of one on its plateau, and has to
escape again. docs/cards/transplant.md says beforehand what each account predicts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from unplateau.studies.accounts import CELLS, cell_name, escapes_of, verdicts_of
from unplateau.studies.base import LONGER, Planned, Row, Scale, Study, Table, by_cell
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
OTHER = 1000
"""Added to the seed of the run on its plateau whose modules are the control."""


class Transplant(Study):
    """Eight cells of modules on tasks whose items are vectors."""

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
        controls = [f"{thing}, control" for thing in MODULES]
        return [
            escapes_of(into, also=controls),
            verdicts_of(into),
            escapes_of(back, heading="Median step by which a run that had escaped has escaped again"),
        ]


def _plain(task: str, seed: int, steps: int) -> RunSpec:
    plain = TASKS[task]()
    train = plain.train.model_copy(update={"steps": steps, "probe_every": 100})
    return plain.model_copy(update={"recipe": f"transplant-{task}", "train": train, "seed": seed})


def _donors(task: str, seed: int) -> tuple[RunSpec, RunSpec, RunSpec]:
    """A run on its plateau, one that has escaped, and another on its plateau."""
    escaped = _plain(task, seed, ESCAPED).with_strategy("unplateau")
    return _plain(task, seed, ON_PLATEAU), escaped, _plain(task, seed + OTHER, ON_PLATEAU)


def _cells(task: str, seed: int, longer: int) -> Iterator[Planned]:
    flat, escaped, other = _donors(task, seed)

    def grown(base: RunSpec, steps: int, donor: RunSpec, things: Sequence[str]) -> RunSpec:
        modules = tuple(name for thing in things for name in MODULES[thing])
        grafts = (Graft(donor=base), *((Graft(donor=donor, modules=modules),) if modules else ()))
        return _plain(task, seed, steps).model_copy(update={"grafts": grafts})

    for cell in CELLS:
        yield Planned(f"{task}, {INTO}", cell_name(cell), grown(flat, longer * AFTER, escaped, cell))
    for thing in MODULES:
        yield Planned(f"{task}, {INTO}", f"{thing}, control", grown(flat, longer * AFTER, other, [thing]))
    for cell in CELLS:
        yield Planned(f"{task}, {OUT}", cell_name(cell), grown(escaped, longer * BACK, flat, cell))
