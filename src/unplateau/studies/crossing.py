"""The crossing: is it the representation, the attention pattern, or do three things have to come together?

Each of eight cells asks for another choice of the three: items that stand out (MatchLoss), labels that are bound to
their items (BindLoss), queries that look (LookLoss). docs/cards/crossing.md says beforehand which cells each account of
plateaus says to end one early.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from unplateau.strategies.strategy import Strategy
from unplateau.studies.accounts import CELLS, THINGS, cell_name, escapes_of, verdicts_of
from unplateau.studies.base import EARLY, LONGER, Planned, Row, Scale, Study, Table, by_cell
from unplateau.studies.bottlenecks import named
from unplateau.studies.tasks import TASKS
from unplateau.train.spec import RunSpec

DEEP = 6
"""Blocks of the deep models; the shallow ones are those of the recipes, of two or three."""
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
        return [escapes_of(settings), verdicts_of(settings), named(settings)]


def _spec(task: str, init: str, n_layers: int | None, cell: Sequence[str], longer: int) -> RunSpec:
    plain = TASKS[task]()
    layers = plain.model.n_layers if n_layers is None else n_layers
    model = plain.model.model_copy(update={"init": init, "n_layers": layers})
    steps = longer * STEPS if not cell else round(EARLY * longer * STEPS)
    train = plain.train.model_copy(update={"steps": steps, "probe_every": 100})
    spec = plain.model_copy(update={"recipe": f"{task}-{init}-{layers}", "model": model, "train": train})
    return spec.with_strategy(Strategy(*(THINGS[thing] for thing in cell)))
