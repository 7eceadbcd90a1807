"""Dose and response: does the plateau end earlier the more the hidden factors are made to stand out?

docs/cards/amplify.md says beforehand what each account predicts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from scipy import stats

from unplateau import recipes
from unplateau.items.amplified import Amplified
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
    escapes,
)
from unplateau.studies.tasks import codes, hues
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec

GAINS = (2.0, 4.0, 8.0, 16.0)
STEPS = 1000
EARLIER, NOT_EARLIER = -0.5, -0.2
"""The larger the dose, the earlier: borne out by a rank correlation up to the first, refuted above the second."""
TASKS: Mapping[str, Callable[[], RunSpec]] = {"shapes": recipes.shapes, "two-hues": hues, "random-codes": codes}
CONDITIONS: Mapping[str, str] = {"alone": "plain", "with labels bound and queries that look": "bind-loss+look-loss"}
"""Where the other two things are missing, and where they are asked for."""


class Amplify(Study):
    """Doses on tasks whose items are vectors with factors, each beside a control of the same size."""

    name = "amplify"
    question = "Does a plateau end earlier the more its hidden factors stand out in the items themselves?"
    parts = tuple(TASKS)

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """All doses of a setting beside each other; scale ``paper`` trains four times as long."""
        steps = LONGER[scale] * STEPS
        return [
            Planned(f"{task}, {condition}", cell, _spec(task, steps, strategy, gain, control).with_seed(seed))
            for task in self.chosen(only)
            for condition, strategy in CONDITIONS.items()
            for seed in seeds
            for cell, gain, control in _cells()
        ]

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """Escapes and few-shot scores by dose, and the rank correlation of dose and escape."""
        lines, verdicts = [], []
        for setting, cells in by_cell(rows).items():
            for cell in (cell for cell, *_ in _cells() if cell in cells):
                found = cells[cell]
                scores = [row.few_shot.value for row in found if row.few_shot and row.at]  # not before the first step
                told = f"{sum(scores) / len(scores):.2f}" if scores else "-"
                lines.append([setting, cell, told, escapes(found)])
            verdicts += [[setting, *_trend(cells, wanted)] for wanted in (False, True)]
        note = "Runs that never escaped count as their last step. Below 0: the larger the dose, the earlier the escape."
        columns = ["setting", "", "predicted", "found", "verdict"]
        return [
            Table("Escapes by dose", ["setting", "dose", "few-shot score on the plateau", "median step"], lines),
            Table("Rank correlation of dose and escape", columns, verdicts, note),
        ]


def _cells() -> list[tuple[str, float, bool]]:
    """Cell, gain, and whether it is a control."""
    doses = [(f"x {gain:g}", gain, False) for gain in GAINS]
    controls = [(f"x {gain:g}, control", gain, True) for gain in GAINS[-2:]]
    return [(PLAIN, 1.0, False), *doses, *controls]


def _spec(task: str, steps: int, strategy: str, gain: float, control: bool) -> RunSpec:
    plain = TASKS[task]()
    assert isinstance(plain.task, FactorTask)
    shape = plain.task.shape
    hidden = tuple(shape.factors[index].name for index in shape.asked)
    source = plain.task.source
    if gain != 1:
        source = Amplified(source=source, factors_amplified=hidden, gain=gain, control=control)
    train = plain.train.model_copy(update={"steps": steps, "probe_every": 100})
    changes = {"recipe": f"amplify-{task}", "task": plain.task.model_copy(update={"source": source}), "train": train}
    return plain.model_copy(update=changes).with_strategy(strategy)


def _trend(cells: Mapping[str, Sequence[Row]], control: bool) -> list[str]:
    """Doses or controls: what was predicted, the rank correlation, and what became of the prediction."""
    said = ["controls", "not earlier"] if control else ["doses", "the larger, the earlier"]
    chosen = [(cell, gain) for cell, gain, other in _cells() if other is control or cell == PLAIN]
    pairs = [(gain, row) for cell, gain in chosen for row in cells.get(cell, ())]
    if len({gain for gain, _ in pairs}) < 2:
        return [*said, "-", ""]
    value, told = _correlation([(gain, row.time.low) for gain, row in pairs])
    earlier, not_earlier = value <= EARLIER, value > NOT_EARLIER
    escaped = any(row.escape is not None for _, row in pairs)
    if not (earlier or not_earlier) or not (control or escaped):
        return [*said, told, "undecided"]
    return [*said, told, HELD if (not_earlier if control else earlier) else REFUTED]


def _correlation(pairs: Sequence[tuple[float, float]]) -> tuple[float, str]:
    """The rank correlation, and in words; 0 where all times are alike."""
    gains, times = zip(*pairs, strict=True)
    if len(set(times)) < 2:
        return 0.0, "all alike"
    found = stats.spearmanr(gains, times)
    return float(found.statistic), f"{found.statistic:.2f} (p {found.pvalue:.2g}, {len(pairs)} runs)"
