"""Controls: each lacks the one thing that a strategy is said to work by, and should then do nothing.

docs/cards/controls.md says beforehand what each rules out.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from unplateau import recipes
from unplateau.strategies.base import Part
from unplateau.strategies.curricula import WarmUp
from unplateau.strategies.losses import ComponentLoss, ContextLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
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
    escapes,
)
from unplateau.train.spec import RunSpec


@dataclass(frozen=True)
class Case:
    """A cell: what is trained, what it is a control of (nothing: it is the real one), and what it should then show."""

    parts: tuple[Part, ...]
    of: str = ""
    early: bool = False
    lacks: str = ""
    frozen: tuple[str, ...] = ()


TERMS: Mapping[str, Part] = {"match": MatchLoss(), "bind": BindLoss(), "look": LookLoss()}
LACKS = {
    "match": "labels are those of another prompt",
    "bind": "names the place of the item, not the item",
    "look": "right labels are those of another prompt",
}
CASES: Mapping[str, Case] = {
    PLAIN: Case(()),
    "warm-up": Case((WarmUp(steps=150),)),
    "warm-up, changing": Case(
        (WarmUp(steps=150, mapping="changing"),), "warm-up", lacks="another mapping at every step"
    ),
    "warm-up, shuffled": Case((WarmUp(steps=150, mapping="shuffled"),), "warm-up", lacks="labels of other items"),
    "weights loss": Case((WeightsLoss(),)),
    "context loss": Case((ContextLoss(),), "weights loss", lacks="asks for what the prompt hides"),
    "weights loss, all": Case(
        (WeightsLoss(factors="all"),), "weights loss", early=True, lacks="nothing: asks for more"
    ),
    "component loss": Case((ComponentLoss(),)),
    "component loss, identity": Case(
        (ComponentLoss(cut="identity"),), "component loss", lacks="not what the model computes"
    ),
    "component loss, zero": Case((ComponentLoss(cut="zero"),), "component loss", lacks="not what the model computes"),
    **{name: Case((term,)) for name, term in TERMS.items()},
    **{
        f"{name}, control": Case((term.model_copy(update={"control": True}),), name, lacks=LACKS[name])
        for name, term in TERMS.items()
    },
    "three": Case(tuple(TERMS.values())),
    "three, control": Case(
        tuple(term.model_copy(update={"control": True}) for term in TERMS.values()),
        "three",
        lacks="all of the above",
    ),
    "three, frozen encoder": Case(
        tuple(TERMS.values()), "three", early=True, lacks="a trained item encoder", frozen=("item_embedding",)
    ),
}
WITHOUT_FACTORS = ("weights loss", "context loss", "component loss", "warm-up")
"""Not on tasks of which a prompt hides no factor, or always the same."""
TASKS: Mapping[str, Callable[[], RunSpec]] = {
    "demo": recipes.demo,
    "shapes": recipes.shapes,
    "recall": recipes.recall,
    "clusters": recipes.clusters,
}
STEPS = 1000


class Controls(Study):
    """Strategies beside what they should not work without, under both initialisations."""

    name = "controls"
    question = "Do strategies end plateaus by what they are said to?"
    parts = tuple(TASKS)

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """All cells of a task beside each other; scale ``paper`` trains four times as long."""
        return [
            Planned(f"{task}, {init}", name, _spec(task, init, case, LONGER[scale]).with_seed(seed))
            for init in ("scaled", "gpt2")
            for task in self.chosen(only)
            for seed in seeds
            for name, case in CASES.items()
            if task in ("demo", "shapes") or not (name.startswith(WITHOUT_FACTORS) or case.of in WITHOUT_FACTORS)
        ]

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """Of each control whether it did what was said, where the strategy that it is of ends the plateau early."""
        lines, verdicts = [], []
        for setting, cells in by_cell(rows).items():
            early = early_cells(cells)
            for name in (name for name in CASES if name in cells):
                predicted, verdict = _verdict(name, early, cells)
                verdicts.append(verdict)
                lines.append([setting, name, CASES[name].lacks, predicted, escapes(cells[name]), verdict])
        said = verdicts.count(HELD) + verdicts.count(REFUTED)
        columns = ["setting", "cell", "what it lacks", "predicted", "median step of the escape", "verdict"]
        return [
            Table(
                "Strategies and their controls", columns, lines, f"{verdicts.count(HELD)} of {said} predictions held."
            )
        ]


def _verdict(name: str, early: frozenset[str], run: Collection[str]) -> tuple[str, str]:
    """What was predicted of a cell, and what became of it."""
    case = CASES[name]
    if not case.of:
        return "", ""
    predicted = "early" if case.early else "not early"
    if case.of not in run:
        return predicted, f"not known: {case.of} has not been run"
    if case.of not in early:
        return predicted, f"nothing to control: {case.of} is not early"
    return predicted, HELD if (name in early) is case.early else REFUTED


def _spec(task: str, init: str, case: Case, longer: int) -> RunSpec:
    plain = TASKS[task]()
    model = plain.model.model_copy(update={"init": init})
    train = plain.train.model_copy(update={"steps": longer * STEPS, "frozen": case.frozen})
    spec = plain.model_copy(update={"recipe": f"{task}-{init}", "model": model, "train": train})
    return spec.with_strategy(Strategy(*case.parts))
