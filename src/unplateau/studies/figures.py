"""The figures of the paper (Fu et al. 2024), each with what would agree with its claim and what would not.

At scale ``cpu`` on the recipes of this package, at scale ``paper`` on the paper's own sizes (12 blocks of width 128, 40
pairs, batches of 128, GPT-2's initialisation, 1e-4), which need a GPU. docs/cards/figures.md has the claims.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from unplateau import recipes
from unplateau.items.shapes3d import Shapes3D
from unplateau.models.transformer import ModelConfig
from unplateau.store import RunRecord
from unplateau.strategies.base import Part
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.strategy import Strategy
from unplateau.studies.base import LONGER, PLAIN, Planned, Row, Scale, Study, Table, by_cell, escape_of, escapes
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec, TrainConfig

AGREES, DISAGREES, UNDECIDED = "agrees", "DISAGREES", "undecided"
STRONG, WEAK = 0.7, 0.3
"""A rank correlation of at least this size agrees; below the lower one there is nothing to see."""
MAPPINGS: tuple[int | None, ...] = (1, 4, 32, 1000, 20_000, None)
LENGTHS = (25, 75, 150, 300, 600)
SIZES: Mapping[str, Mapping[str, int]] = {
    "2 blocks, width 32": {"n_layers": 2, "width": 32, "n_heads": 2},
    "3 blocks, width 64": {"n_layers": 3, "width": 64, "n_heads": 4},
    "6 blocks, width 64": {"n_layers": 6, "width": 64, "n_heads": 4},
}
EARLY_LOOK = 200
"""Step at which weights scores of runs are compared: on the plateau of all that have one."""


@dataclass(frozen=True)
class Claim:
    """What a figure shows, what would agree and disagree with it, and the verdict with its number."""

    says: str
    agreement: str
    disagreement: str
    judge: Callable[[Sequence[Row]], tuple[str, str]]


def _base(scale: Scale) -> RunSpec:
    """Images of which a prompt hides the hue of the wall or the size of the object."""
    if scale == "cpu":
        return recipes.demo()
    source = Shapes3D(image_size=64, width=768)
    return RunSpec(
        recipe="paper",
        task=FactorTask(source=source, n_pairs=40),
        model=ModelConfig(n_layers=12, width=128, n_heads=4, init="gpt2"),
        train=TrainConfig(
            steps=46_920, batch_size=128, lr=1e-4, eval_every=100, probe_every=1000, checkpoint_every=1000
        ),
    )


def _planned(setting: str, cell: str, spec: RunSpec, seeds: Iterable[int], *parts: Part) -> Iterator[Planned]:
    for seed in seeds:
        yield Planned(setting, cell, spec.with_strategy(Strategy(*parts)).with_seed(seed))


def _mappings(scale: Scale, seeds: Sequence[int]) -> Iterator[Planned]:
    plain = _base(scale)
    for number in MAPPINGS:
        task = plain.task.model_copy(update={"n_mappings": number})
        spec = plain.model_copy(update={"task": task})
        yield from _planned(
            plain.recipe, PLAIN if number is None else f"{number} mapping{'s' if number > 1 else ''}", spec, seeds
        )


def _warm_ups(scale: Scale, seeds: Sequence[int]) -> Iterator[Planned]:
    plain = _base(scale)
    longest = plain.train.steps / recipes.demo().train.steps
    yield from _planned(plain.recipe, PLAIN, plain, seeds)
    for length in LENGTHS:
        steps = round(length * longest)
        yield from _planned(plain.recipe, f"warm-up {length}", plain, seeds, WarmUp(steps=steps))


def _mixtures(scale: Scale, seeds: Sequence[int]) -> Iterator[Planned]:
    plain = _base(scale)
    sizes = SIZES if scale == "cpu" else {**SIZES, "12 blocks, width 128": {}}
    for name, size in sizes.items():
        spec = plain.model_copy(update={"model": plain.model.model_copy(update=size)})
        yield from _planned(name, PLAIN, spec, seeds)
        yield from _planned(name, "mixed", spec, seeds, Mixed())


def _losses(scale: Scale, seeds: Sequence[int]) -> Iterator[Planned]:
    plain = _base(scale)
    yield from _planned(plain.recipe, PLAIN, plain, seeds)
    yield from _planned(plain.recipe, "weights loss", plain, seeds, WeightsLoss())
    yield from _planned(plain.recipe, "component loss", plain, seeds, ComponentLoss())


def _selection(scale: Scale, seeds: Sequence[int]) -> Iterator[Planned]:
    plain = recipes.word_selection()
    longer = {"steps": LONGER[scale] * plain.train.steps, "probe_every": 20}
    plain = plain.model_copy(update={"train": plain.train.model_copy(update=longer)})
    yield from _planned(plain.recipe, PLAIN, plain, seeds)
    yield from _planned(plain.recipe, "mixed", plain, seeds, Mixed())


def _correlation(pairs: Sequence[tuple[float, float]], wanted: int) -> tuple[str, str]:
    """The verdict of a rank correlation that should have this sign."""
    if len(pairs) < 3:
        return UNDECIDED, "too few runs"
    if any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return UNDECIDED, "all runs alike"
    found = float(stats.spearmanr([one for one, _ in pairs], [other for _, other in pairs]).statistic)
    value = wanted * found
    verdict = AGREES if value >= STRONG else DISAGREES if value < WEAK else UNDECIDED
    return verdict, f"rank correlation {found:.2f} over {len(pairs)}"


def _number(cell: str) -> float:
    """How many mappings; without end for fresh ones."""
    return math.inf if cell == PLAIN else float(cell.split(maxsplit=1)[0])


def _longer_with_mappings(rows: Sequence[Row]) -> tuple[str, str]:
    cells = {row.cell: [one for one in rows if one.cell == row.cell] for row in rows}
    return _correlation([(_number(cell), escape_of(found).high) for cell, found in cells.items()], 1)


def _impaired_with_mappings(rows: Sequence[Row]) -> tuple[str, str]:
    return _correlation([(_number(row.cell), row.weights.value) for row in rows if row.weights], -1)


def _longer_if_impaired(rows: Sequence[Row]) -> tuple[str, str]:
    return _correlation([(row.weights.value, row.time.high) for row in rows if row.weights], -1)


def _earlier(rows: Sequence[Row]) -> dict[str, bool | None]:
    """Of each cell, whether it escapes before plain training in its setting; None where runs are too short to know."""
    found: dict[str, bool | None] = {}
    for setting, cells in by_cell(rows).items():
        plain = escape_of(cells.pop(PLAIN))
        for cell, runs in cells.items():
            time = escape_of(runs)
            found[f"{setting}, {cell}"] = True if time.high < plain.low else False if time.low >= plain.high else None
    return found


def _told(earlier: Mapping[str, bool | None]) -> str:
    others = [
        f"{words} {', '.join(names)}"
        for value, words in ((False, "not"), (None, "not known:"))
        if (names := [name for name, is_so in earlier.items() if is_so is value])
    ]
    return "; ".join([f"{sum(map(bool, earlier.values()))} of {len(earlier)} earlier", *others])


def _each_is_earlier(rows: Sequence[Row]) -> tuple[str, str]:
    earlier = _earlier(rows)
    known = None not in earlier.values() and bool(earlier)
    verdict = DISAGREES if False in earlier.values() else AGREES if known else UNDECIDED
    return verdict, _told(earlier)


def _some_is_earlier(rows: Sequence[Row]) -> tuple[str, str]:
    earlier = _earlier(rows)
    known = None not in earlier.values() and bool(earlier)
    verdict = AGREES if True in earlier.values() else DISAGREES if known else UNDECIDED
    return verdict, _told(earlier)


def _rises_before(rows: Sequence[Row]) -> tuple[str, str]:
    """At the last look before the escape, is the weights score halfway from chance to 1?"""
    last: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: row.at or 0):
        if row.weights and row.escape is not None:
            last[row.cell, row.seed] = row
    met = [row.weights.met for row in last.values() if row.weights]
    share = sum(met) / len(met) if met else 0.5
    verdict = AGREES if share >= 0.8 else DISAGREES if share <= 0.2 else UNDECIDED
    return verdict, f"{sum(met)} of {len(met)} runs"


@dataclass(frozen=True)
class Figure(Study):
    """One figure: its runs, at which looks they are read, and its claims. ``look``: a step; None for all looks."""

    name: str
    question: str
    cells: Callable[[Scale, Sequence[int]], Iterator[Planned]]
    claims: tuple[Claim, ...]
    look: int | None = EARLY_LOOK
    folder: str = "figures"
    n_seeds: int = 3
    parts: tuple[str, ...] = ()

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """All cells; figures share the runs that they have in common."""
        self.chosen(only)
        return list(self.cells(scale, list(seeds)))

    def rows(self, planned: Planned, record: RunRecord) -> list[Row]:
        """Of the look at a step, or one for each look before the escape."""
        return Row.of_looks(planned, record) if self.look is None else [Row.of(planned, record, at=self.look)]

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """What the runs show, and which claims agree with it."""
        lines = []
        for setting, cells in by_cell(rows).items():
            for cell, found in cells.items():
                once = list({row.seed: row for row in found}.values())
                weights = [row.weights.value for row in once if row.weights]
                told = f"{sum(weights) / len(weights):.2f}" if weights else "-"
                lines.append([setting, cell, escapes(once), told])
        when = "at the last look before the escape" if self.look is None else f"at step {self.look}"
        shown = Table("Runs", ["setting", "cell", "median step of the escape", f"weights score {when}"], lines)
        verdicts = [[one.says, one.agreement, one.disagreement, *reversed(one.judge(rows))] for one in self.claims]
        columns = ["the paper's claim", "agrees if", "disagrees if", "found", "verdict"]
        return [shown, Table("Verdict", columns, verdicts)]


_EARLIER = ("the median escape is before plain training's", "it is not")
_RANKS = (f"rank correlation at least {STRONG:g} that way", f"below {WEAK:g}")
FIGURES = (
    Figure(
        "figure-1b",
        "Does the weights component mature before in-context learning begins, on a task of words?",
        _selection,
        (
            Claim(
                "the weights score rises first", "halfway before 80 % of escapes", "before 20 % at most", _rises_before
            ),
        ),
        look=None,
    ),
    Figure(
        "figure-3",
        "Do more mappings make the plateau longer, and the weights component worse?",
        _mappings,
        (
            Claim("more mappings, longer plateau", *_RANKS, _longer_with_mappings),
            Claim(f"more mappings, lower weights score (step {EARLY_LOOK})", *_RANKS, _impaired_with_mappings),
        ),
    ),
    Figure(
        "figure-4",
        "Is a plateau the longer the lower the weights score?",
        _mappings,
        (Claim("lower weights score, longer plateau", *_RANKS, _longer_if_impaired),),
    ),
    Figure(
        "figure-5a",
        "Does a warm-up on a fixed mapping end the plateau earlier, its own steps counted?",
        _warm_ups,
        (Claim("at some length a warm-up is earlier", *_EARLIER, _some_is_earlier),),
    ),
    Figure(
        "figure-5b",
        "Does mixed training end the plateau earlier, for models of all sizes?",
        _mixtures,
        (Claim("mixed training is earlier in each size", *_EARLIER, _each_is_earlier),),
    ),
    Figure(
        "figure-5c",
        "Do extra losses on the weights component end the plateau earlier?",
        _losses,
        (Claim("each loss is earlier", *_EARLIER, _each_is_earlier),),
    ),
)
