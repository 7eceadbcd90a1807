"""One run in numbers: when it escaped and completed, what that cost, what the probes said.

All tables, figures and comparisons are made from a :class:`RunSummary`, so that every reader quotes the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from unplateau.analysis.survival import Bounded
from unplateau.errors import SpecError
from unplateau.layout import Cut
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.plateau.progress import COMPLETION, ESCAPE, WINDOW, completion_step, escape_step, lost_steps
from unplateau.store import RunRecord, find_runs, load_run

Milestone = Literal["escape", "completion"]
MILESTONES: tuple[Milestone, ...] = ("escape", "completion")
BLOCK = 3
"""The block whose scores are quoted: the third, as in Fu et al. 2024, or the last of a shallower model."""


@dataclass(frozen=True)
class Costs:
    """What training has cost up to a step, probes excluded. ``rows`` are prompts; None where it was not recorded."""

    steps: int
    rows: int | None
    tokens: int | None
    train_flops: float | None
    seconds: float | None
    joules: float | None


@dataclass(frozen=True)
class RunSummary:
    """One run in numbers.

    ``steps``: last logged step. ``escape_step``, ``completion_step``: None if censored, i.e. not reached by ``steps``.
    ``final_progress``, ``final_accuracy``: of test prompts if the run is finished, else means of its last 100 steps
    (``final_on`` says which, and whether training held out the items of test prompts); accuracies are None where labels
    are numbers. ``weights_score``: of layers 0 .. L at the last probing; ``plateau_weights_score``: at the last probing
    before the escape, or the last one if it never escaped; both empty without such scores, and under ``cut``.
    ``costs``: in total and, where reached, to escape and to completion. ``lost``: each time that it got there and was
    thrown back, (reached, lost) in steps.
    """

    record: RunRecord = field(repr=False, compare=False)
    recipe: str
    strategy: str
    seed: int
    cut: Cut
    finished: bool
    steps: int
    escape_step: int | None
    completion_step: int | None
    final_progress: float | None
    final_accuracy: float | None
    final_on: Literal["held-out", "test", "training"]
    bayes_accuracy: float | None
    weights_score: tuple[float, ...]
    plateau_weights_score: tuple[float, ...]
    plateaus: tuple[Plateau, ...]
    costs: Costs
    costs_to: dict[Milestone, Costs | None]
    lost: dict[Milestone, list[tuple[float, float]]]
    energy_method: str

    @property
    def block(self) -> int:
        """Index into its scores of the block that is quoted."""
        return min(BLOCK, len(self.weights_score) - 1)

    def quoted(self, scores: Sequence[float]) -> float | None:
        """The score of that block, None without probes."""
        return scores[self.block] if scores else None

    def reached(self, milestone: Milestone) -> int | None:
        """Step of the milestone, None if censored."""
        return self.escape_step if milestone == "escape" else self.completion_step

    def time_of(self, milestone: Milestone) -> Bounded:
        """The same as a time: beyond the last step for a censored run."""
        step = self.reached(milestone)
        return Bounded.above(self.steps) if step is None else Bounded.exactly(step)

    def as_dict(self) -> dict[str, Any]:
        """The run's entry in ``summary.json``."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            **asdict(self.costs),
            **{f"to_{name}": asdict(costs) if (costs := self.costs_to[name]) else None for name in MILESTONES},
            "weights_score": list(self.weights_score),
            "plateau_weights_score": list(self.plateau_weights_score),
            "lost": {name: [list(pair) for pair in self.lost[name]] for name in MILESTONES},
            "plateaus": [plateau.as_dict() for plateau in self.plateaus],
            "spec": self.record.env["run"]["digest"],
            "commit": self.record.env["versions"]["commit"],
            "machine": self.record.env["machine"]["cpu"],
            "path": str(self.record.path),
        }


_PLAIN = (
    *("recipe", "strategy", "seed", "cut", "finished", "steps", "escape_step", "completion_step"),
    *("final_progress", "final_accuracy", "final_on", "bayes_accuracy", "energy_method"),
)

Runs = RunRecord | str | Path | Sequence[RunRecord | str | Path]
"""Run records, run directories, or folders of these."""
Groups = Mapping[str, tuple[RunSummary, ...]]
"""The runs of each strategy, in the order in which they are shown."""


def summaries(runs: Runs) -> list[RunSummary]:
    """All these runs in numbers. Raises SpecError if there is none."""
    return [summarise_run(record) for record in records(runs)]


def records(runs: Runs) -> list[RunRecord]:
    """The records of these runs, each once. Raises SpecError if there is none."""
    found: dict[Path, RunRecord] = {}
    for one in [runs] if isinstance(runs, RunRecord | str | Path) else runs:
        for record in [one] if isinstance(one, RunRecord) else map(load_run, find_runs(one)):
            found.setdefault(record.path.resolve(), record)
    if not found:
        raise SpecError("no runs given: name at least one run directory")
    return list(found.values())


def summarise_run(record: RunRecord) -> RunSummary:
    """One run in numbers; definitions of escape and completion in ``unplateau.plateau``."""
    last_step = int(record.history.last("step", 0))  # 0 before the first row
    progress = record.history.column("progress")
    found = {"escape": escape_step(*progress), "completion": completion_step(*progress)}
    reached = {name: None if step is None else round(step) for name, step in found.items()}
    return RunSummary(
        record=record,
        recipe=record.recipe,
        strategy=record.strategy,
        seed=record.seed,
        cut=record.cut,
        finished=record.done is not None,
        steps=last_step,
        escape_step=reached["escape"],
        completion_step=reached["completion"],
        final_progress=_final(record, "progress"),
        final_accuracy=_final(record, "accuracy"),
        final_on=record.tested_on if record.done is not None else "training",
        bayes_accuracy=None if record.floors.bayes_accuracy is None else fmean(record.floors.bayes_accuracy),
        weights_score=tuple(record.history.last("weights_score", ())),
        plateau_weights_score=_score_before(record, reached["escape"]),
        plateaus=_plateaus(record),
        costs=_costs_at(record, last_step),
        costs_to={name: None if (step := reached[name]) is None else _costs_at(record, step) for name in MILESTONES},
        lost={
            "escape": lost_steps(*progress, threshold=ESCAPE),
            "completion": lost_steps(*progress, threshold=COMPLETION),
        },
        energy_method=str(record.history.last("energy_method", "none")),
    )


def _final(record: RunRecord, name: str) -> float | None:
    if record.done is not None:
        value = record.done.get(f"test_{name}")
        return None if value is None else float(value)
    steps, values = record.history.column(name)
    late = [value for step, value in zip(steps, values, strict=True) if step > steps[-1] - WINDOW]
    return fmean(late) if late else None


def _score_before(record: RunRecord, escape: int | None) -> tuple[float, ...]:
    """The weights score at the last probing before the escape; at the first one if all came later."""
    steps, scores = record.history.column("weights_score")
    before = [score for step, score in zip(steps, scores, strict=True) if escape is None or step < escape]
    return tuple((before or scores[:1] or [()])[-1])


def _plateaus(record: RunRecord) -> tuple[Plateau, ...]:
    """Plateaus of the curve that progress is read from, between the exact predictors' heights."""
    name = record.floors.progress
    steps, values = record.history.column(name)
    floor, ceiling = record.floors.progress_start, record.floors.progress_end
    direction: Literal["min", "max"] = "min" if name == "loss" else "max"
    return tuple(find_plateaus(steps, values, floor=floor, ceiling=ceiling, direction=direction)) if steps else ()


def _costs_at(record: RunRecord, step: int) -> Costs:
    """Cumulative costs at the first row from this step on (rows and costs are logged at the same steps)."""
    row = next((row for row in record.history if row["step"] >= step), {})
    return Costs(step, *(row.get(name) for name in ("rows", "tokens", "train_flops", "seconds", "joules")))
