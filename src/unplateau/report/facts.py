"""What a report says beside its curves: how its runs were made, and two tables of what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from unplateau.analysis.columns import RESULTS, UNKNOWN, Cell, Column, known_results, mark, results_caption
from unplateau.analysis.compare import Comparison, StrategyComparison
from unplateau.analysis.runs import MILESTONES, Groups, RunSummary
from unplateau.analysis.savings import MEASURES, SHOWN
from unplateau.analysis.variants import variants
from unplateau.report.finding import noun, seeds_words
from unplateau.report.style import printable, spoken

MOST_NAMES = 8
"""Names that are all listed; of more, the first and the last."""


@dataclass(frozen=True)
class Table:
    """``groups``: headings over several columns, with how many. ``rows``: a heading and its cells."""

    name: str
    caption: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def brief_table(groups: Groups, comparison: Comparison | None) -> Table:
    """One row for each strategy: when it escaped and completed, for how many FLOPs, and how good it was at the end."""
    accurate = all(run.bayes_accuracy is not None for members in groups.values() for run in members)
    columns = [column for column in RESULTS if column.name in (*MILESTONES, "accuracy" if accurate else None)]
    if not accurate:
        columns.append(Column("progress", "progress", "final", lambda run: run.final_progress))
    rows = {name: [column.cell(members) for column in columns] for name, members in groups.items()}
    headings = ["escape", "completion", f"final {columns[-1].heading}"]
    said = ["Medians over seeds, with how many got there; > N: not by step N"]
    if comparison and len(groups) > 1:
        said.append(f"FLOPs to escape: those of {printable(comparison.baseline)} over those of the {noun(groups)}")
        headings.insert(2, "times fewer FLOPs")
        for one in comparison.strategies:
            itself = Cell("1" if one.against else UNKNOWN)
            rows[one.name].insert(2, one.savings["escape"]["train_flops"].cell if one.savings else itself)
    if any(mark(members) for members in groups.values()):
        said.append("*: with unfinished runs")
    return Table(
        name="In short",
        caption=f"{'; '.join(said)}.",
        groups=(),
        columns=tuple(headings),
        rows=tuple((printable(name) + mark(groups[name]), tuple(cells)) for name, cells in rows.items()),
    )


def results_table(groups: Groups) -> Table:
    """One row for each strategy: when it escaped and completed, what it knows, what the whole run cost."""
    runs = [run for members in groups.values() for run in members]
    columns = known_results(runs)
    over = [column.group if isinstance(column.group, str) else column.group(runs) for column in columns]
    return Table(
        name="When, how well, at what cost",
        caption=results_caption(groups),
        groups=tuple((heading, len(list(same))) for heading, same in groupby(over)),
        columns=tuple(column.heading for column in columns),
        rows=tuple(
            (printable(name) + mark(members), tuple(column.cell(members) for column in columns))
            for name, members in groups.items()
        ),
    )


def savings_table(comparison: Comparison) -> Table | None:
    """How many times less each strategy cost than the baseline; None if there is nothing to compare."""
    others = [one for one in comparison.strategies if one.savings]
    if not others:
        return None
    what = "row" if comparison.settings else "strategy"
    tested = any(one.p(milestone) is not None for one in others for milestone in MILESTONES)
    columns = tuple(MEASURES[name] for name in SHOWN) + (("log-rank p",) if tested else ())
    return Table(
        name=f"Savings against {printable(comparison.baseline)}",
        caption=f"Cost of {printable(comparison.baseline)} divided by cost of the {what}, up to the event: above 1 the "
        f"{what} is cheaper. Median over seeds in common, below it the range over seeds; > and < are bounds, because "
        f"runs ended before they got there; ? is unknown.",
        groups=tuple((f"to {milestone}", len(columns)) for milestone in MILESTONES),
        columns=columns * len(MILESTONES),
        rows=tuple((printable(one.name), _saving_cells(one, tested)) for one in others),
    )


def facts(groups: Groups) -> list[tuple[str, str]]:
    """What was run: task, model, training, strategies."""
    runs = [run for members in groups.values() for run in members]
    steps = sorted({run.record.spec.get("train", {}).get("steps", run.steps) for run in runs})
    found: dict[str, list[str]] = {}
    for name, text in (pair for run in runs for pair in _facts_of(run, steps)):
        found.setdefault(name, []).append(text)
    differing = [
        f"{key}: {', '.join(dict.fromkeys(value for _, value in sorted(zip(order, values, strict=True))))}"
        for key, order, values in _differing(runs)
    ]
    strategies = "; ".join(f"{printable(name)}: {seeds_words(members)}" for name, members in groups.items())
    return [
        *((name, "; or ".join(dict.fromkeys(texts))) for name, texts in found.items()),
        *([("Settings that differ", "; ".join(differing))] if differing else []),
        ("Strategies", strategies),
    ]


def _differing(runs: Sequence[RunSummary]) -> list[tuple[str, list[tuple[Any, ...]], list[str]]]:
    """Each setting that differs: its key, and of every run what sorts it and its value."""
    told = variants(runs)
    return [
        (key, [one.rank[0][number] for one in told], [one.settings[number][1] for one in told])
        for number, (key, _) in enumerate(told[0].settings)
    ]


def _facts_of(run: RunSummary, steps: Sequence[int]) -> list[tuple[str, str]]:
    spec, sizes = run.record.spec, run.record.task
    task, training = spec.get("task", {}), spec.get("train", {})
    kinds = filter(None, [task.get("kind", ""), task.get("source", {}).get("kind", "")])
    factors = [
        f"{spoken(name)} ({size})" for name, size in zip(sizes["factor_names"], sizes["factor_sizes"], strict=True)
    ]
    hidden = [*map(spoken, sizes.get("hidden_names") or sizes["hidden_factors"])]
    label = "a number" if run.record.floors.bayes_accuracy is None else f"one of {sizes['n_labels']} labels"
    n_mappings = task.get("n_mappings", "not recorded")
    return [
        ("Task", " over ".join(kinds)),
        ("Prompt", f"{sizes['n_pairs']} pairs of an item and {label}"),
        *([("Hidden", _one_of(hidden))] if len(hidden) > 1 else []),
        *([("Factors and their sizes", ", ".join(factors))] if factors else []),
        ("Mappings", "a fresh one for each prompt" if n_mappings is None else f"{n_mappings} for each factor"),
        ("Model", f"{_model(spec.get('model', {}))}; {sizes['parameters']:,} parameters"),
        (
            "Training",
            f"{' or '.join(f'{count:,}' for count in steps)} steps of {training.get('batch_size')} prompts, "
            + _updates(training),
        ),
        *([("Cut of all scores", run.cut)] if run.weights_score else []),
    ]


def provenance(groups: Groups) -> list[tuple[str, list[str]]]:
    """Commands, versions and machines, each once."""
    runs = [run for members in groups.values() for run in members]
    environments = [run.record.env for run in runs]
    told = {
        "Commands": [str(env["run"].get("command", "not recorded")) for env in environments],
        "Versions": [_settings(env.get("versions", {})) for env in environments],
        "Machine": [_settings(env.get("machine", {})) for env in environments],
        "Seeds": [
            f"{printable(name)}: {', '.join(str(run.seed) for run in members)}" for name, members in groups.items()
        ],
        "Run directories": [str(run.record.path) for run in runs],
    }
    return [(name, list(dict.fromkeys(texts))) for name, texts in told.items()]


def _one_of(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMES:
        return f"one of {', '.join(names)}"
    return f"one of {len(names)}, from {names[0]} to {names[-1]}"


def _saving_cells(one: StrategyComparison, tested: bool) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for milestone in MILESTONES:
        cells += [one.savings[milestone][name].cell for name in SHOWN]
        if tested:
            p = one.p(milestone)
            cells.append(Cell(UNKNOWN if p is None else f"{p:.2g}"))
    return tuple(cells)


def _updates(training: Mapping[str, Any]) -> str:
    """Optimiser, learning rate, and what is not left as it is."""
    rate, schedule = f"learning rate {training.get('lr')}", training.get("schedule")
    told = [_part(training.get("optimiser", "Adam")), rate]
    told += [{"cosine": "cosine to 0"}.get(schedule, schedule)] if schedule else []
    told += [f"warm-up of {training['warm_up']} steps"] if "warm_up" in training else []
    told += [f"gradients through {_part(training['gradient_filter'])}"] if "gradient_filter" in training else []
    told += [f"clipped at norm {training['clip_norm']}"] if "clip_norm" in training else []
    return ", ".join(told)


def _part(value: Any) -> str:
    """A kind with its settings, or one of these."""
    if not isinstance(value, Mapping):
        return " and ".join(map(str, value)) if isinstance(value, list) else str(value)
    settings = _settings({spoken(name): _part(one) for name, one in value.items() if name != "kind"})
    return f"{value.get('kind')} ({settings})" if settings else str(value.get("kind"))


def _model(config: Mapping[str, Any]) -> str:
    named = {"n_layers": "blocks", "width": "wide", "n_heads": "heads"}
    known = [f"{config[key]} {word}" for key, word in named.items() if key in config]
    rest = {spoken(key).replace("init", "initialisation"): value for key, value in config.items() if key not in named}
    switched_on = [key for key, value in rest.items() if value is True]
    others = {key: value for key, value in rest.items() if not isinstance(value, bool)}
    return ", ".join(filter(None, [*known, _settings(others), *switched_on]))


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
