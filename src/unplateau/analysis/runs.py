"""One run in numbers: when it escaped and completed, what that cost, what the probes said.

All tables, figures and comparisons are made from a :class:`RunSummary`, so that every reader quotes the same numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from unplateau.analysis.rows import Columns, StoredHistory
from unplateau.analysis.survival import Bounded
from unplateau.damage import LeftOut, readable
from unplateau.errors import SpecError
from unplateau.layout import Cut
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.plateau.progress import COMPLETION, ESCAPE, LARGEST, WINDOW, completion_step, escape_step, lost_steps
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
    thrown back, (reached, lost) in steps. ``probed``: whether it has looked at its own hidden states.
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
    costs: Costs
    costs_to: dict[Milestone, Costs | None]
    lost: dict[Milestone, list[tuple[float, float]]]
    energy_method: str
    probed: bool

    @cached_property
    def plateaus(self) -> tuple[Plateau, ...]:
        """Those of the curve that progress is read from, between the exact predictors' heights."""
        name, floors = self.record.floors.progress, self.record.floors
        steps, values = self.columns[name]
        direction: Literal["min", "max"] = "min" if name == "loss" else "max"
        ends = {"floor": floors.progress_start, "ceiling": floors.progress_end}
        return tuple(find_plateaus(steps, values, **ends, direction=direction)) if steps.size else ()

    @cached_property
    def columns(self) -> Columns:
        """What pictures show of its rows, as arrays."""
        return Columns(self.record.history)

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

Run = RunRecord | RunSummary | str | Path
Runs = Run | Sequence[Run]
"""Run records or summaries, run directories, or folders of these."""
Groups = Mapping[str, tuple[RunSummary, ...]]
"""The runs of each strategy, in the order in which they are shown."""


class Summaries(tuple[RunSummary, ...]):
    """Runs in numbers; ``left_out``: those that were asked for and could not be read."""

    left_out: tuple[LeftOut, ...] = ()


def summaries(runs: Runs, prepare: Callable[[RunSummary], object] = lambda _: None) -> Summaries:
    """All these runs in numbers, each read once, and its rows forgotten before the next one is.

    ``prepare`` has a run while its rows are at hand. A run that is damaged, or that it fails on, is left out, with a
    warning. Raises SpecError if there is none, DamagedRunsError if none is left.
    """
    if isinstance(runs, Summaries):
        return runs
    given: dict[Path, Path | RunRecord | RunSummary] = {}
    for one in [runs] if isinstance(runs, Run) else runs:
        for each in find_runs(one) if isinstance(one, str | Path) else [one]:
            given.setdefault(_path(each).resolve(), each)
    if not given:
        raise SpecError("no runs given: name at least one run directory")
    by_path = {_path(each): each for each in given.values()}

    def read(path: Path) -> RunSummary:
        summary = _summary(by_path[path])
        prepare(summary)
        if isinstance(summary.record.history, StoredHistory):
            summary.record.history.forget()
        return summary

    found, left_out = readable([*by_path], read)
    result = Summaries(found)
    result.left_out = tuple(left_out)
    return result


def _path(one: Path | RunRecord | RunSummary) -> Path:
    record = one.record if isinstance(one, RunSummary) else one
    return record.path if isinstance(record, RunRecord) else record


def _summary(one: Path | RunRecord | RunSummary) -> RunSummary:
    if isinstance(one, RunSummary):
        return one
    if isinstance(one, RunRecord):
        return summarise_run(one)
    record = load_run(one)
    return summarise_run(replace(record, history=StoredHistory(one, record.history)))


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
        costs=_costs_at(record, last_step),
        costs_to={name: None if (step := reached[name]) is None else _costs_at(record, step) for name in MILESTONES},
        lost={
            "escape": lost_steps(*progress, threshold=ESCAPE),
            "completion": lost_steps(*progress, threshold=COMPLETION),
        },
        energy_method=str(record.history.last("energy_method", "none")),
        probed=bool(record.history.column("cut")[0]),
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


def _costs_at(record: RunRecord, step: int) -> Costs:
    """Cumulative costs at the first row from this step on (rows and costs are logged at the same steps)."""
    row = next((row for row in record.history if row["step"] >= step), {})
    costs = [row.get(name) for name in ("rows", "tokens", "train_flops", "seconds", "joules")]
    if not all(one is None or _is_number(one) for one in costs):
        raise ValueError(f"the costs at step {step} are not numbers")
    return Costs(step, *costs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST
