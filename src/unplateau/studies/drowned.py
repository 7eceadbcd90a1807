"""Drowned labels: does a plateau outlast the three terms because labels are faint beside the items bound to them?

docs/cards/drowned.md says beforehand what is predicted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unplateau.strategies.base import Part
from unplateau.strategies.prompt_losses import KeepLoss
from unplateau.strategies.strategy import Strategy
from unplateau.studies.accounts import THINGS
from unplateau.studies.base import (
    HELD,
    LONGER,
    REFUTED,
    Planned,
    Row,
    Scale,
    Study,
    Table,
    by_cell,
    early_cells,
    escapes,
)
from unplateau.studies.bottlenecks import READ, first_missing
from unplateau.studies.tasks import TASKS
from unplateau.train.spec import RunSpec

THREE, EARLIER = "three", 0.75
"""The cell that all others are compared with, and the share of its median by which a cell must escape to be earlier."""


@dataclass(frozen=True)
class Case:
    """A cell: what is asked for, how many times as large labels are at first, and under which initialisations.

    ``helps``: it is predicted to escape earlier than the three alone where labels are drowned there.
    """

    parts: tuple[Part, ...]
    gain: float = 1.0
    helps: bool = False
    inits: tuple[str, ...] = ("gpt2",)


_THREE, _KEEP = tuple(THINGS.values()), KeepLoss(weight=1)
CASES: Mapping[str, Case] = {
    THREE: Case(_THREE, inits=("gpt2", "scaled")),
    "three + keep": Case((*_THREE, _KEEP), helps=True, inits=("gpt2", "scaled")),
    "three + keep, control": Case((*_THREE, _KEEP.model_copy(update={"control": True}))),
    "three, labels x 5": Case(_THREE, gain=5.0),
    "three, labels x 25": Case(_THREE, gain=25.0, helps=True),
    "keep alone": Case((_KEEP,)),
}
"""Labels x 25 are as large as under the initialisation ``scaled``."""
STEPS = 600


class Drowned(Study):
    """The three terms with labels that are kept or larger, under the initialisation that makes labels small."""

    name = "drowned"
    question = "Do plateaus outlast all three terms because labels are drowned by the items that are bound to them?"
    parts = tuple(TASKS)

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """All cells of a setting beside each other; scale ``paper`` trains four times as long."""
        wanted = list(seeds)
        return [
            Planned(f"{task}, {init}", cell, _spec(task, init, case, LONGER[scale]).with_seed(seed))
            for init in ("gpt2", "scaled")
            for task in self.chosen(only)
            for seed in wanted
            for cell, case in CASES.items()
            if init in case.inits and (case.gain == 1 or not TASKS[task]().task.shape.labels_are_tokens)
        ]

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """When the cells escaped, and of each whether it did what was said, given whether labels were drowned."""
        lines, verdicts, settings = [], [], by_cell(rows, beside=THREE)
        for setting, cells in settings.items():
            earlier, drowned = early_cells(cells, beside=THREE, share=EARLIER), are_drowned(cells[THREE])
            for name in (name for name in CASES if name in cells):
                predicted, verdict = _verdict(name, earlier, drowned)
                verdicts.append(verdict)
                lines.append([setting, name, _kept(cells[name]), escapes(cells[name]), predicted, verdict])
        held = verdicts.count(HELD)
        columns = ["setting", "cell", "keep score", "median step of the escape", "predicted", "verdict"]
        note = (
            f"{held} of {held + verdicts.count(REFUTED)} predictions held. Earlier: by {EARLIER:g} of the median of "
            f"{THREE}."
        )
        heading = "Labels that are kept, or larger, beside the three terms alone"
        return [Table(heading, columns, lines, note), _named(settings)]


def _verdict(name: str, earlier: frozenset[str], drowned: bool | None) -> tuple[str, str]:
    """What was predicted of a cell, and what became of it."""
    if name == THREE or drowned is None:
        return "", ""
    expected = CASES[name].helps and drowned
    return "earlier" if expected else "not earlier", HELD if (name in earlier) is expected else REFUTED


def _named(settings: Mapping[str, Mapping[str, Sequence[Row]]]) -> Table:
    """What the scores of runs that stay flat to the end say that they lack."""
    lines = []
    for setting, cells in settings.items():
        for name in (name for name in CASES if name in cells):
            told = Counter(first_missing(row) or "don't know" for row in cells[name] if row.escape is None)
            if told:
                lines.append([setting, name, ", ".join(f"{thing}: {n} of {told.total()}" for thing, n in told.items())])
    note = f"{READ}: what it would name first."
    return Table("Runs that did not escape: what they lack", ["setting", "cell", "named first"], lines, note)


def are_drowned(rows: Sequence[Row]) -> bool | None:
    """Whether labels are nearer to chance than to 1 after every block, in most runs; None without such a score."""
    found = [row.keep.met for row in rows if row.keep is not None]
    return None if not found else sum(found) < len(found) / 2


def _kept(rows: Sequence[Row]) -> str:
    found = [row.keep for row in rows if row.keep is not None]
    if not found:
        return "-"
    value, chance = (sum(getattr(one, name) for one in found) / len(found) for name in ("value", "chance"))
    return f"{value:.2f} (chance {chance:.2f})"


def _spec(task: str, init: str, case: Case, longer: int) -> RunSpec:
    plain = TASKS[task]()
    model = plain.model.model_copy(update={"init": init, "label_gain": case.gain})
    train = plain.train.model_copy(update={"steps": longer * STEPS, "probe_every": 100})
    spec = plain.model_copy(update={"recipe": f"drowned-{task}-{init}-{case.gain:g}", "model": model, "train": train})
    return spec.with_strategy(Strategy(*case.parts))
