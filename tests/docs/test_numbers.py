"""Numbers in prose are those of the result files: each sentence is written anew from them, and must stand in its page.

``{shapes/match there}``: of the runs of MatchLoss on shapes in docs/results.md, how many escaped; ``{demo/plain
last}``: the latest escape of plain training in the demo. What may be asked for are the properties of :class:`Found`.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median

import bottlenecks
import cards
import optimisers
import planted
import pytest
import scaling
import speed
import strategies

from unplateau.analysis.survival import Bounded
from unplateau.files import read_json
from unplateau.plateau.progress import ESCAPE
from unplateau.studies import STUDIES
from unplateau.studies.accounts import verdicts_of
from unplateau.studies.base import by_cell, early_cells, escape_of, read_study
from unplateau.studies.bottlenecks import first_missing, named
from unplateau.studies.drowned import are_drowned
from unplateau.studies.tasks import TASKS

ROOT = Path(__file__).parents[2]
COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FIELD = re.compile(r"\{([\w ]+)/([\w =\[\]-]+) (\w+)\}")


@dataclass(frozen=True)
class Found:
    """What the runs of one strategy have shown: ``escapes`` are the steps of those that did, in order."""

    runs: int
    steps: int
    escapes: tuple[int, ...]
    median: Bounded
    at_the_end: tuple[float, ...]
    held_out: tuple[float, ...]

    @property
    def there(self) -> str:
        """How many escaped."""
        return COUNTS[len(self.escapes)]

    @property
    def escape(self) -> str:
        """The median step."""
        return self.median.shown()

    @property
    def first(self) -> str:
        """The earliest escape."""
        return f"{self.escapes[0]:,}"

    @property
    def last(self) -> str:
        """The latest escape."""
        return f"{self.escapes[-1]:,}"

    @property
    def trained(self) -> str:
        """How many steps the runs had."""
        return f"{self.steps:,}"

    @property
    def ending(self) -> str:
        """On test items, at the end: the median."""
        return f"{median(self.held_out):.2f}"

    @property
    def progress(self) -> str:
        """After the steps that all strategies have, or at the end: the median."""
        return f"{median(self.at_the_end):.2f}"


@cache
def found(task: str, way: str) -> Found:
    """A line of docs/results.md, or of the demo."""
    if task == "demo":
        runs = cards.kept(task)[way]
        steps = [run["escape_step"] for run in runs]
        middle, progress = cards.reached(runs, "escape"), [run["final_progress"] for run in runs]
        trained, held_out = runs[0]["steps"], progress
    else:
        raw = [row for row in strategies.read_raw() if (row["task"], row["way"]) == (task, way)]
        rate = strategies.best_rate(strategies.read_raw(), task) if way == "plain" else 1.0
        rows = [row for row in raw if float(row["rate"]) == rate and int(row["seed"]) in strategies.REPORTED]
        steps = [int(row["escape"]) if row["escape"] else None for row in rows]
        middle, progress = strategies.reached(rows, "escape"), [float(row["progress"]) for row in rows]
        trained, held_out = int(rows[0]["steps"]), [float(row["held_out"]) for row in rows]
    reached = sorted(step for step in steps if step is not None)
    return Found(len(steps), trained, tuple(reached), middle, tuple(progress), tuple(held_out))


def filled(sentence: str) -> str:
    """The sentence with its numbers."""
    return FIELD.sub(lambda field: getattr(found(field[1], field[2]), field[3]), sentence)


README, THREE = "README.md", "docs/concepts/three_things.md"


def card(name: str) -> str:
    """Its page."""
    return f"docs/cards/{name}.md"


def prose(page: str) -> str:
    """A page on one line."""
    return " ".join((ROOT / page).read_text("utf-8").split())


SENTENCES = [
    (README, "at step {shapes/unplateau first} to {shapes/unplateau last} on every seed"),
    (README, "on {shapes/plain there} within {shapes/plain trained}"),
    (README, "associative recall at {recall/unplateau escape} (median) against {recall/plain escape}"),
    (README, "on noisy clusters at {clusters/unplateau escape} against {clusters/plain escape}"),
    (README, "told nothing, do so at step {demo/unplateau first} on both seeds"),
    (README, "step {demo/unplateau last} on both seeds, and then come as far as the weights loss"),
    (README, "(most on sparse parity: {parity/unplateau ending} of the way with all four, {parity/bind ending} with"),
    ("docs/flat.md", "had not escaped after {shapes/plain trained} steps, on five seeds of five"),
    (THREE, "with size or shape it has not escaped by {shapes/plain trained} on"),
    (THREE, "(alone on {shapes/match there} of five; bound labels on {shapes/bind there}, queries that look on"),
    (THREE, "queries that look on {shapes/look there})"),
    (THREE, "bound labels (alone on {recall/bind there} of five, the other two on {recall/match there})"),
    (THREE, "queries that look (alone on {clusters/look there} of five, the other two on {clusters/bind there})"),
    (THREE, "(all at once on {regression/unplateau there} of five; bound labels or queries that look alone on"),
    (THREE, "queries that look alone on {regression/look there}, items that stand out on {regression/match there})"),
    (THREE, "bound labels (alone on {parity/bind there} of five, the other two on {parity/look there})"),
    (THREE, "bound labels, on {random codes/bind there} of five at {random codes/bind escape}"),
    (THREE, "items that stand out at {random codes/match escape}; queries that look on {random codes/look there}"),
    (THREE, "(plain training on {random codes/plain there} of five, at {random codes/plain escape})"),
    (THREE, "items that stand out, at {words/match escape} where plain training takes {words/plain escape}"),
    (THREE, "all at once {words/unplateau escape}. Losses that are told the factors: {words/weights loss escape}"),
    (THREE, "that look, at {word selection/look escape} where plain training takes {word selection/plain escape}"),
    (THREE, "bound labels on {word selection/bind there} by {word selection/bind trained}"),
    (card("bind-loss"), "{recall/bind there} of five in associative recall (escape at {recall/bind escape}, plain"),
    (
        card("bind-loss"),
        "{parity/bind there} of five in sparse parity ({parity/bind escape}, plain training at {parity/plain escape})",
    ),
    (card("bind-loss"), "{two hues/bind there} of five with the hues of images ({two hues/bind escape})"),
    (card("bind-loss"), "{random codes/bind there} of five of random codes ({random codes/bind escape})"),
    (card("bind-loss"), "of clusters, regression and word selection on {clusters/bind there}."),
    (card("bind-loss"), "of clusters, regression and word selection on {regression/bind there}."),
    (card("bind-loss"), "of clusters, regression and word selection on {word selection/bind there}."),
    (
        card("match-loss"),
        "on {shapes/match there} seeds of five (size or shape hidden: {shapes/match escape}; two hues:",
    ),
    (card("match-loss"), "two hues: {two hues/match escape}), and of random codes ({random codes/match escape})."),
    (card("word-selection"), "(at twice the rate it does, at {word selection/plain escape}:"),
    (
        card("look-loss"),
        "(escape at {clusters/look escape}, plain training at {clusters/plain escape} on {clusters/plain there}",
    ),
    (card("clusters"), "at {clusters/plain escape} (median, {clusters/plain there} seeds of five within"),
    (card("clusters"), "`unplateau` at {clusters/unplateau escape} on all"),
    (
        card("recall"),
        "plain training leaves its plateau at {recall/plain escape}, `unplateau` at {recall/unplateau escape}",
    ),
    (card("regression"), "{regression/unplateau first} to {regression/unplateau last} on all"),
    (card("regression"), "progress is {regression/plain progress} and {regression/unplateau progress} in the median"),
    (card("parity"), "leaves its plateau at {parity/plain escape} (median, {parity/plain there} of five)"),
    (card("parity"), "`unplateau` at {parity/unplateau first} to {parity/unplateau last} on all"),
    (card("parity"), "`BindLoss` alone at {parity/bind first} to {parity/bind last}"),
    (card("weights-loss"), "escape at step {demo/weights-loss last} and {demo/weights-loss first}, plain training at"),
    (
        card("mixed"),
        "escape at step {demo/mixed first} and {demo/mixed last}, plain training at {demo/plain last} and",
    ),
    (
        card("warm-up"),
        "escape at {demo/warm-up[steps=150] last} and {demo/warm-up[steps=150] first}, plain training at",
    ),
    (card("component-loss"), "`shapes`: escape at step {shapes/component loss escape}"),
]


@pytest.mark.parametrize(("page", "sentence"), SENTENCES, ids=[sentence for _, sentence in SENTENCES])
def test_numbers_in_prose_are_those_of_the_results(page: str, sentence: str) -> None:
    assert filled(sentence) in prose(page)


def test_tables_of_cards_are_made_from_the_results() -> None:
    pages = [ROOT / "docs" / "results.md", *(ROOT / "docs" / "cards").glob("*.md")]
    made = [strategies.page(strategies.read_raw()), *(cards.page(page.read_text("utf-8")) for page in pages[1:])]
    stale = [page.name for page, text in zip(pages, made, strict=True) if page.read_text("utf-8") != text]
    assert not stale, "run `make figures` and commit what it writes"


def test_what_the_losses_cost_a_step() -> None:
    costs = strategies.step_costs()
    flops, seconds = (
        [100 * (costs[one.name, "unplateau"][unit] / costs[one.name, "plain"][unit] - 1) for one in strategies.TASKS]
        for unit in ("flops", "seconds")
    )
    said = f"They cost {min(flops):.0f} to {max(flops):.0f} % more FLOPs a step, and"
    assert f"{said} {min(seconds):.0f} to {max(seconds):.0f} % more time on one CPU thread." in prose(README)
    told = {
        task: costs[task, "weights loss"]["flops"] / costs[task, "plain"]["flops"]
        for task in ("clusters", "word selection")
    }
    assert f"{told['clusters']:.2f} times the FLOPs of a step on `clusters`" in prose(card("weights-loss"))
    assert f"for it, {told['word selection']:.2f} times." in prose(card("weights-loss"))
    more = costs["shapes", "component loss"]["flops"] / costs["shapes", "plain"]["flops"]
    assert f"A step costs {more:.2f} times the FLOPs of a plain one" in prose(card("component-loss"))


def test_what_a_study_costs_is_what_was_measured() -> None:
    found, page = read_json(scaling.RESULTS), scaling.PAGE.read_text("utf-8")
    assert scaling.page(page, found) == page, "run `make figures` and commit what it writes"
    said = " ".join(page.split())
    seconds, joules = ([abs(scaling.error(row, what)) for row in found["check"]] for what in ("seconds", "joules"))
    came_true = f"Seconds came true within {math.ceil(100 * max(seconds))} % on all {len(seconds)} runs"
    assert f"{came_true} and joules within {math.ceil(100 * max(joules))} %" in said
    busy = [abs(scaling.error(row, "seconds")) <= 0.2 for row in found["first_check"]]
    assert f"{sum(busy)} of the {len(busy)} came true within 20 %" in said


def test_which_one_of_three_things_halves_a_plateau_by_itself() -> None:
    """With steps enough, recipes as they are: medians of at most half of plain training's."""
    halves = {
        way: {
            entry.name
            for entry in strategies.TASKS
            if (median_of(entry.name, way) <= median_of(entry.name, "plain") / 2)
        }
        for way in ("match", "bind", "look", "unplateau")
    }
    assert halves["match"] == {"shapes", "two hues", "random codes"}
    assert halves["bind"] == {"random codes", "recall", "parity"}
    assert halves["look"] == {"word selection", "clusters"}
    assert len(halves["unplateau"]) == 9
    alone = halves["match"] | halves["bind"] | halves["look"]
    assert f"halved it on {COUNTS[len(alone)]} of nine tasks: items on three, bound labels on three" in prose(README)
    assert f"halved the plateau on {COUNTS[len(alone)]} of nine tasks" in prose(THREE)


def median_of(task: str, way: str) -> float:
    """Of the escape, or the least that it can be."""
    middle = found(task, way).median
    return middle.low if way == "plain" else middle.high


def test_what_the_crossing_says_of_tasks() -> None:
    """On which tasks one thing alone, two or all three ended the plateau early: see docs/concepts/three_things.md."""
    early = {
        setting.split(",")[0]: {frozenset(name.split("+")) for name in early_cells(cells)}
        for setting, cells in by_cell(read_study(cards.RESULTS / "crossing.jsonl")).items()
        if setting.endswith("shallow, scaled")
    }
    fewest = {task: min(map(len, cells), default=0) for task, cells in early.items()}
    by_fewest = {n: {task for task, least in fewest.items() if least == n} for n in range(4)}
    assert by_fewest == {
        0: {"recall"},
        1: {"clusters", "parity", "regression", "word-selection"},
        2: {"shapes", "two-hues", "random-codes"},
        3: {"words"},
    }
    alone = {
        thing: {task for task, cells in early.items() if {thing} in cells} for thing in ("items", "labels", "queries")
    }
    assert alone == {
        "items": set(),
        "labels": {"clusters", "parity", "regression"},
        "queries": {"clusters", "word-selection"},
    }
    assert all(sum(len(cell) == 2 for cell in early[task]) == 3 for task in ("shapes", "two-hues"))
    assert {cell for cell in early["random-codes"] if len(cell) == 2} == {frozenset(("items", "labels"))}


def test_what_the_crossing_says_under_small_embeddings() -> None:
    """Of images and recall under GPT-2's initialisation: how many cells end the plateau early, drowned or not."""
    rows = read_study(cards.RESULTS / "crossing.jsonl")
    n_shallow = sum(", shallow, " in row.setting for row in rows)
    card_says, page = prose(card("crossing")), prose(THREE)
    assert (
        f"All {n_shallow} runs of the shallow models under both initialisations, and {len(rows) - n_shallow} of"
        in card_says
    )
    cells = by_cell(rows)
    verdicts = {line[0]: line[3].split(" (")[0].split(" of ") for line in verdicts_of(cells).lines if line[3]}
    missed = [
        f"{int(verdicts[name][1]) - int(verdicts[name][0])} of {verdicts[name][1]}"
        for name in ("induction circuit first", "all three together")
    ]
    assert f"they miss {missed[0]} and {missed[1]} of the cells that did end early" in card_says
    early = {task.split(",")[0]: early_cells(of_task) for task, of_task in cells.items() if task.endswith("low, gpt2")}
    for task, thing in {"recall": "labels", "clusters": "queries"}.items():
        assert early[task] == {cell for cell in cells[f"{task}, shallow, gpt2"] if thing in cell}
    assert early["two-hues"] == early["regression"] == {"labels+queries", "items+labels+queries"}
    words = cells["word-selection, shallow, gpt2"]
    assert early["word-selection"] == {cell for cell in words if "items" in cell or "queries" in cell}
    assert f"earlier ({escape_of(words['items']).shown()}) than anything else does" in card_says
    assert min(words, key=lambda cell: escape_of(words[cell]).low) == "items"
    assert f"queries end it as well ({escape_of(words['queries']).shown()})" in card_says
    never = [task for task, found in early.items() if not found]
    assert never == ["parity", "random-codes", "shapes", "words"]
    with_all = [cells[f"{task}, shallow, gpt2"]["items+labels+queries"] for task in (*never, "two-hues", "clusters")]
    assert [are_drowned(found) for found in with_all].count(True) == 5  # shapes: in runs of another study
    flat = [row for task in never for found in cells[f"{task}, shallow, gpt2"].values() for row in found]
    assert not any(row.escape for row in flat)
    assert f"all three together included: none of {len(flat)} runs" in card_says
    together = cells["two-hues, shallow, gpt2"]["items+labels+queries"]
    scores = [row.keep for row in together if row.keep is not None]
    values, chances = ([getattr(score, name) for score in scores] for name in ("value", "chance"))
    drowned = f"(keep score {min(values):.2f} to {max(values):.2f}, chance {min(chances):.2f} to {max(chances):.2f})"
    escapes = sorted(row.escape for row in together if row.escape is not None)
    assert f"{drowned}, and with all three things asked for" in page
    assert f"ends on {COUNTS[len(escapes)]} seeds of five, at {escapes[0]} to {escapes[-1]}." in page


def test_where_one_of_the_three_is_earlier_than_all() -> None:
    """Medians of the best of them alone and of all three, where it is earlier: with the recipes, and under scaled."""
    alone = {
        entry.name: min((found(entry.name, way).median for way in ("match", "bind", "look")), key=lambda time: time.low)
        for entry in strategies.TASKS
    }
    together = {entry.name: found(entry.name, "unplateau").median for entry in strategies.TASKS}
    assert all(len(found(task, "unplateau").escapes) == 5 for task in together)
    assert {task for task in alone if alone[task].low < together[task].high} == {"parity"}
    page = prose(THREE)
    assert f"but for parity ({together['parity'].shown()}, bound labels alone {alone['parity'].shown()})" in page
    cells = by_cell(read_study(cards.RESULTS / "crossing.jsonl"))
    for task, before in {"clusters": "also on clusters", "recall": ", recall", "regression": " and regression"}.items():
        ones = cells[f"{task}, shallow, scaled"]
        best = min((escape_of(ones[thing]) for thing in ("items", "labels", "queries")), key=lambda time: time.low)
        assert f"{before} ({best.shown()} and {escape_of(ones['items+labels+queries']).shown()})" in page


def test_labels_are_drowned_where_they_are_asked_to_be_bound() -> None:
    """Under GPT-2's initialisation, on words and where a size or shape is hidden."""
    cells, page = by_cell(read_study(cards.RESULTS / "crossing.jsonl")), prose(card("drowned"))

    def kept(tasks: Sequence[str], asks: Callable[[str], bool]) -> str:
        of = [one for task in tasks for cell, found in cells[f"{task}, gpt2"].items() if asks(cell) for one in found]
        scores = [row.keep.value for row in of if row.keep is not None]
        return f"{min(scores):.2f} to {max(scores):.2f}"

    words = kept(["words, shallow", "words, deep"], lambda cell: "labels" in cell)
    shapes = kept(["shapes, deep"], lambda cell: "labels" in cell)
    assert f"(words, shallow and deep: {words}; `shapes`, deep: {shapes})" in page
    others = kept(["words, shallow", "words, deep", "shapes, deep"], lambda cell: cell == "items+queries")
    assert f"(items and queries: {others})" in page


def test_how_often_a_bottleneck_that_was_made_is_named() -> None:
    cells = by_cell(read_study(cards.RESULTS / "crossing.jsonl"))
    told = {line[0]: line[2].split(" (")[0] for line in named(cells).lines}
    said = f"Items were named on {told['items']} runs, labels on {told['labels']}, queries on {told['queries']}."
    assert said in prose(card("crossing"))
    drowned = by_cell(read_study(cards.RESULTS / "drowned.jsonl"), beside="three")
    flat = [row for task in ("shapes", "words") for row in drowned[f"{task}, gpt2"]["three"] if row.escape is None]
    told["kept labels"] = f"{[first_missing(row) for row in flat].count('kept labels')} of {len(flat)}"
    page = prose(THREE)
    assert f"for items on {told['items']}, for bound labels on {told['labels']}, for kept labels on" in page
    assert f"for kept labels on {told['kept labels']}, and for queries on {told['queries']}, by the scores" in page
    made = {setting: Counter(map(first_missing, of_one.get("items+labels", ()))) for setting, of_one in cells.items()}
    drowned_as_well = made["two-hues, shallow, gpt2"] + made["clusters, shallow, gpt2"]
    drowned_as_well += made["two-hues, deep, gpt2"] + made["clusters, deep, gpt2"]
    assert drowned_as_well == {"kept labels": 13, "queries": 1}
    assert made["word-selection, shallow, scaled"] == {"queries": 5}
    assert made["regression, shallow, gpt2"] == {"queries": 5}


def test_what_the_card_of_bottlenecks_says() -> None:
    rows, page = bottlenecks.kept(), prose(card("bottlenecks"))
    everything = bottlenecks.on_purpose(rows)
    new, made = ([row for row in everything if (row.seed >= bottlenecks.NEW_SEED) is late] for late in (True, False))
    for batch in (new, made):
        told = [bottlenecks.answer_of(row, rows) for row in batch]
        first = sum(answer.is_first for answer in told)
        later = sum(answer.is_named for answer in told) - first
        assert f"first on {first} of {len(told)} runs" in page
        assert f"first on {first} of {len(told)} and later on {COUNTS[later]} more" in prose(THREE)
    assert [row.waits_for for row in new if not bottlenecks.answer_of(row, rows).is_named] == [(), (), ("inference",)]
    both = [bottlenecks.answer_of(row, rows).is_first for row in new if row.cell == "kept labels and queries"]
    assert f"it is right on {sum(both)} of {len(both)}." in page
    shares = [
        f"{sum(bottlenecks.answer_of(row, rows).is_first for row in of_init)} of {len(of_init)} under"
        for init in ("gpt2", "scaled")
        if (of_init := [row for row in new if row.setting.endswith(init)])
    ]
    assert f"({shares[0]} GPT-2's initialisation, {shares[1]} the first one)" in page
    left = {(row.setting, row.seed) for row in rows if row.cell == bottlenecks.NOTHING and row.escape is not None}
    late = [row for row in rows if row.escape is None and row.progress >= ESCAPE and (row.setting, row.seed) in left]
    assert [row.seed >= bottlenecks.NEW_SEED for row in late] == [True] * 3
    assert not any(bottlenecks.answer_of(row, rows).is_named for row in late)
    ends = sorted(row.progress for row in late)
    assert f"end with a progress of {ends[0]:.2f} to {ends[-1]:.2f}" in page
    missed = Counter((row.setting, row.cell) for row in made if row.cell not in row.waits_for)
    assert missed == {("shapes, gpt2", "items"): 3, ("words, gpt2", "labels"): 1, ("parity, gpt2", "items"): 1}
    leaving = sorted(row.progress for row in made if (row.setting, row.cell) == ("shapes, gpt2", "items"))
    assert f"with a progress of {leaving[0]:.2f} to {leaving[-1]:.2f}" in page
    kept = [row for row in made if (row.setting, row.cell) == ("words, gpt2", "kept labels")]
    assert [row.waits_for[0] for row in kept].count("items") == 2
    kept = [row for row in made if (row.setting, row.cell) == ("parity, gpt2", "kept labels")]
    assert [row.waits_for[0] for row in kept] == ["kept labels"] * 2
    needs = {task: {row.cell for row in made if row.setting == f"{task}, gpt2"} for task in TASKS}
    assert needs["shapes"] == {"items", "labels", "kept labels"}
    assert needs["two-hues"] == needs["recall"] == {"labels"}
    assert needs["words"] == {"items", "labels", "kept labels"}  # labels on one seed of three
    assert needs["clusters"] == needs["word-selection"] == set()
    bound = [row for row in planted.kept() if row.progress < ESCAPE <= row.twin]
    right = sum(row.waits_for[:1] == (row.cell,) for row in bound)
    assert f"it names that first on {right} of {len(bound)}." in prose(THREE)
    assert {row.setting for row in made if row.cell == "queries"} == {"word-selection, scaled", "regression, gpt2"}


def test_the_card_of_keep_loss_shows_what_was_measured() -> None:
    text = strategies.CARD.read_text("utf-8")
    assert strategies.card(text) == text, "run `make figures` and commit what it writes"


def test_the_page_on_speed_shows_what_was_measured() -> None:
    text = speed.PAGE.read_text("utf-8")
    assert speed.page(text) == text, "run `make figures` and commit what it writes"


def test_what_the_page_on_speed_says_of_a_gpu() -> None:
    found = read_json(speed.GPU)
    prose = " ".join(speed.PAGE.read_text("utf-8").split())
    ratios = {(one["size"], one["execution"], one["precision"]): one["ratio"] for one in found["speeds"]}
    eager = sorted(ratio for (_, execution, _), ratio in ratios.items() if execution == "eager")
    compiled, recorded = ratios["paper", "compiled", "bfloat16"], ratios["paper", "graphed", "bfloat16"]
    assert f"a compiled step is {compiled:.1f} times as fast as usual**" in prose
    assert f"a recorded one alone {recorded:.1f} times" in prose
    assert f"a GPU brings little: {eager[0]:.1f} to {eager[-1]:.1f} times" in prose
    assert f"of the paper's size is {compiled:.1f} times as fast" in " ".join(
        (ROOT / "CHANGELOG.md").read_text().split()
    )
    stacks = {name: one["seconds"] for name, one in found["stack"].items()}
    recorded, plain = stacks["graphed"], stacks["as they are"]
    assert f"they take {recorded['together'] / plain['alone']:.1f} times what one takes kernel by kernel" in prose
    assert f"but {recorded['together'] / recorded['alone']:.1f} times what a single" in prose
    assert f"miss the aim too, by {plain['together'] / plain['alone']:.1f} times" in prose


def test_when_plain_training_leaves_the_plateau_of_shapes_at_last() -> None:
    rows = [row for row in read_study(cards.RESULTS / "prediction.jsonl") if row.setting.endswith("20,000 steps")]
    (escape,), (progress,) = {row.escape for row in rows}, {row.progress for row in rows}
    assert f"and at {escape:,} in one run of 20,000" in prose(README)
    assert f"it escaped at {escape:,} (12,788 by the formula) and ended at a progress of {progress:.2f}" in prose(
        card("prediction")
    )


def test_what_the_card_of_prediction_says() -> None:
    every, verdicts, plain, published = STUDIES["prediction"].judge(read_study(cards.RESULTS / "prediction.jsonl"))
    page = prose(card("prediction"))

    def interval(line: Sequence[str]) -> tuple[float, float]:
        low, high = line[1].split(" (")[1].rstrip(")").split(" to ")
        return float(low), float(high)

    scores = {line[0]: line for line in every.lines}
    best = interval(scores["sum of the three"])[0]
    below = {name for name, line in scores.items() if interval(line)[1] < best}
    assert [line[0] for line in verdicts.lines if line[-1] == "REFUTED"] == [
        "representation first",
        "attention pattern first",
        "the curve is enough",
    ]
    assert all("sum of the three" in line[2] for line in verdicts.lines if line[-1] == "REFUTED")
    assert below == {
        "the curve alone (progress so far)",
        *(f"{one} score" for one in ("weights", "few-shot", "binding", "keep", "look")),
    }
    assert f"wrong way round ({scores['keep score'][1].replace(' (', ', ').rstrip(')')})" in page
    alone = {line[0]: line for line in plain.lines if "(" in line[1]}
    assert f"({alone.pop('sum of the three')[1].replace(' (', ', ').rstrip(')')}, from five tasks)" in page
    for score in ("look score", "weakest of the three"):
        assert f"{score} ({alone.pop(score)[1].replace(' (', ', ').rstrip(')')})" in page
    assert all(low <= 0.5 <= high for low, high in map(interval, alone.values()))
    ratios = [
        float(told.replace(",", "")) / float(step.replace(",", ""))
        for setting, told, step in published.lines
        if not step.startswith(">") and "20,000" not in setting
    ]
    assert f"by a factor of {min(ratios):.0f} to {max(ratios):.0f} where" in page


def test_what_the_card_of_doses_says() -> None:
    rows = read_study(cards.RESULTS / "amplify.jsonl")
    doses, trends = STUDIES["amplify"].judge(rows)
    alone, bound = (
        [line[3] for line in doses.lines if line[0] == f"two-hues, {condition}"]
        for condition in ("alone", "with labels bound and queries that look")
    )
    page, steps = prose(card("amplify")), [found.split(" (")[0] for found in (*alone, *bound)]
    assert f"{len(rows)} of its 70 runs" in page
    assert [found.split("(")[1] for found in alone] == ["0/5)", *["5/5)"] * 4, *["0/5)"] * 2]
    assert f"then at {', '.join(steps[1:4])} and {steps[4]}, on all five seeds each" in page
    assert f"(rank correlation {trends.lines[0][3].split()[0]})" in page
    assert f"from {doses.lines[0][2]} to {doses.lines[4][2]}" in page
    hastened = steps[7:12]
    assert (
        f"ends at {hastened[0]} as items are, at {hastened[1]} with doses of 2 and 4 and at {hastened[3]} with" in page
    )
    assert (hastened[1], hastened[3]) == (hastened[2], hastened[4])
    assert {*steps[5:7], *steps[12:], steps[0]} == {"> 1,000"}
    match = by_cell(read_study(cards.RESULTS / "crossing.jsonl"))["two-hues, shallow, scaled"]["items"]
    assert f"by 500 on {COUNTS[sum(row.escape is None for row in match)]} seeds of five" in page


def test_what_the_page_says_of_optimisers() -> None:
    ways = by_cell(optimisers.kept())["demo"]
    adam, muon, soap, losses, _ = (escape_of(ways[way]).shown() for way in optimisers.WAYS)
    page = prose("docs/results.md")
    assert all(len(found) == len(optimisers.SEEDS) for found in ways.values())
    assert f"earlier than Adam ({muon}, {soap} and {adam} in the median)" in page
    assert f"`unplateau` with Adam earlier than both ({losses})." in page


def test_what_the_card_of_transplants_says() -> None:
    rows = read_study(cards.RESULTS / "transplant.jsonl")
    into = by_cell(rows)["recall, into a plateau"]
    medians = {cell: escape_of(found).shown() for cell, found in into.items()}
    there = {cell: COUNTS[sum(row.escape is not None for row in found)] for cell, found in into.items()}
    page, early = prose(card("transplant")), early_cells(into)
    assert f"all {sum(map(len, into.values()))} transplants into the plateau" in page
    assert f"{there['labels']} of five escape, at {medians['labels']} in the median" in page
    assert f"ends the plateau of another by itself, at step {medians['labels']}" in prose(THREE)
    assert f"going on unchanged {there['plain']} of five do within 600 steps" in page
    assert f"does nothing ({there['queries']} of five)" in page
    assert f"comes late ({there['items']} of five, {medians['items']})" in page
    assert f"earlier: {medians['items+labels']} with items, {medians['labels+queries']} with queries" in page
    assert f"early as well, at {medians['items+queries']}, and" in page
    assert early == {"labels", "items+labels", "items+queries", "labels+queries", "items+labels+queries"}
    controls = [row for cell, found in into.items() if cell.endswith("control") for row in found]
    n_there = sum(row.escape is not None for row in controls)
    assert f"{COUNTS[n_there]} of {len(controls)} runs escapes" in page
    accounts = STUDIES["transplant"].judge(rows)[1].lines
    assert {line[2] for line in accounts[:-1]} == {"4 of 7"}
    assert accounts[-1][2] == "5 of 7"
    back = by_cell(rows)["recall, back"]
    again = {cell: escape_of(found).shown() for cell, found in back.items()}
    n_again = {cell: sum(row.escape is not None for row in found) for cell, found in back.items()}
    assert f"and all {sum(map(len, back.values()))} back" in page
    assert f"needs {again['labels']} steps to be back, and on {COUNTS[5 - n_again['labels']]} of five seeds" in page
    assert {n_again[cell] for cell in back if "labels" in cell and "+" in cell} == {0}
    assert f"alone it takes {again['queries']}, without items alone {again['items']}:" in page
    assert [line[1] for line in STUDIES["transplant"].judge(rows)[4].lines] == ["4 of 7"] * 2 + ["6 of 7"] * 2 + [
        "7 of 7"
    ]


def test_what_the_card_of_drowned_labels_says() -> None:
    """Of images and words under gpt2: how many runs of each cell escaped, and when."""
    cells = by_cell(read_study(cards.RESULTS / "drowned.jsonl"), beside="three")
    shown = {
        cell: [
            (sum(row.escape is not None for row in rows), len(rows), escape_of(rows).shown())
            for rows in (cells["shapes, gpt2"][cell], cells["words, gpt2"][cell])
        ]
        for cell in cells["shapes, gpt2"]
    }
    counts = {cell: tuple(map(sum, zip(*((n, of) for n, of, _ in both), strict=True))) for cell, both in shown.items()}
    says = prose(card("drowned"))
    (there, of), (kept, _) = counts["three"], counts["three + keep"]
    medians = {cell: " and ".join(median for *_, median in both) for cell, both in shown.items()}
    assert f"`three` escapes on {there} run of {of}, `three + keep` on {kept} of {of}" in says
    assert f"(medians {medians['three + keep']}), and so do" in says
    assert f"five times as large at first ({medians['three, labels x 5']})" in says
    assert f"control escapes on {counts['three + keep, control'][0]} of {of} as well" in says
    assert counts["three, labels x 5"] == (of, of)
    assert counts["keep alone"] == (0, of)
    named = {
        cell: [
            first_missing(row)
            for setting in ("shapes, gpt2", "words, gpt2")
            for row in cells[setting][cell]
            if row.escape is None
        ]
        for cell in ("three", "three + keep, control", "keep alone")
    }
    n_named = named["three"].count("kept labels")
    assert f"first on {n_named} of the {len(named['three'])} runs of `three`" in says
    assert f"and on all {len(named['three + keep, control'])} of the control" in says
    assert {*named["three + keep, control"]} == {"kept labels"}
    assert {*named["keep alone"]} == {"items"}
    for name, words in {"weights": "weights", "few_shot": "few-shot", "binding": "binding", "look": "look"}.items():
        images = cells["shapes, gpt2"]
        flat, not_flat = (median(getattr(row, name).value for row in images[one]) for one in ("three", "three + keep"))
        assert f"a {words} score of {flat:.2f} and {not_flat:.2f}" in says
    assert f"({shown['three, labels x 25'][1][0]} of {shown['three, labels x 25'][1][1]})" in says


def test_what_the_card_says_of_labels_that_are_not_drowned() -> None:
    """Of recall under gpt2: keeping labels changes nothing, larger ones do harm."""
    (study,) = (one for one in STUDIES.values() if one.name == "drowned")
    table, lacks = study.judge(read_study(cards.RESULTS / "drowned.jsonl"))
    lines = {line[1]: line for line in table.lines if line[0] == "recall, gpt2"}
    kept, medians = lines["three"][2].split(" (")[0], {cell: line[3].split(" (")[0] for cell, line in lines.items()}
    says = prose(card("drowned"))
    assert f"(keep score {kept}), `three` escapes at {medians['three']} and `three + keep` at" in says
    assert f"`three + keep` at {medians['three + keep']}: keeping changes nothing" in says
    assert f"five times as large they make it {medians['three, labels x 5']}, 25 times as large no run of five" in says
    assert lines["three, labels x 25"][3].endswith("(0/5)")
    assert [line[2] for line in lacks.lines if line[:2] == ["recall, gpt2", "three, labels x 25"]] == ["labels: 5 of 5"]
    assert [line[-1] for line in lines.values()].count("held") == 5


def test_what_is_said_of_intervals_where_each_run_ends_by_itself() -> None:
    with (cards.RESULTS / "intervals.csv").open() as file:
        rows = list(csv.DictReader(file))
    few = [row for row in rows if (row["runs"], row["censored"], row["ends"]) == ("5", "0.6", "each at its own")]
    covers = [float(row["ratio_covers"]) for row in few]
    said = f"it then holds the truth in {100 * fmean(covers):.0f} % of all cases, {100 * min(covers):.0f} of one kind"
    assert said in prose("docs/concepts/reading_results.md")
    medians, ratios = ([float(row[f"{what}_covers"]) for row in rows] for what in ("median", "ratio"))
    page = prose("docs/decisions.md")
    assert f"it covers {fmean(medians):.3f} in the mean, {min(medians):.2f} at least" in page
    assert f"From four on it covers {fmean(ratios):.3f} in the mean" in page
