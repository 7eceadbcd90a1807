"""The tables of the report, as text in cells.

What enters: the runs of each strategy and their comparison. What leaves: captions, headings and cells, not yet HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from unplateau.analysis.compare import MEASURES, Comparison, Saving, StrategyComparison, time_of
from unplateau.analysis.runs import EVENTS, Event, RunSummary
from unplateau.analysis.survival import median_time
from unplateau.report.contents import Groups, block_of
from unplateau.report.style import printable, spoken
from unplateau.report.words import seeds_words, with_unit


@dataclass(frozen=True)
class Cell:
    """What a cell says, and a smaller line below it."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """``groups``: headings over several columns, with how many. ``rows``: a heading and its cells."""

    name: str
    caption: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def results_table(groups: Groups) -> Table:
    """One row for each strategy: when it escaped and completed, what it knows, what the whole run cost."""
    first = next(iter(groups.values()))[0]
    floors = first.record.floors
    block = max((block_of(run) for runs in groups.values() for run in runs if run.weights_score), default=None)
    probes = "no probes" if block is None else f"weights score, block {block}, cut {first.cut}"
    caption = (
        f"Medians over seeds; > means that too few runs got there before they ended. Accuracy of the two exact "
        f"predictors: no-context {fmean(floors.no_context_accuracy):.2f}, Bayes-optimal {first.bayes_accuracy:.2f}."
    )
    methods = sorted({run.energy_method for runs in groups.values() for run in runs})
    caption += f" Joules: {'; '.join(methods)}."
    if any(not run.finished for runs in groups.values() for run in runs):
        caption += " *: with unfinished runs, counted as censored where they stopped."
    return Table(
        name="When, how well, at what cost",
        caption=caption,
        groups=(("step of", 2), ("final", 1), (probes, 2), ("whole run", 3)),
        columns=(
            "escape",
            "completion",
            "accuracy",
            "on the plateau",
            "at the end",
            "training FLOPs",
            "time",
            "energy",
        ),
        rows=tuple((_row_name(name, runs), _result_cells(runs)) for name, runs in groups.items()),
    )


def savings_table(comparison: Comparison) -> Table | None:
    """How many times less each strategy cost than the baseline; None if there is nothing to compare."""
    if len(comparison.strategies) < 2:
        return None
    caption = (
        f"Cost of {printable(comparison.baseline)} divided by cost of the strategy, up to the event: "
        f"above 1 the strategy is cheaper. Median over seeds in common, below it the range over seeds; > and < are "
        f"bounds, because runs ended before they got there; ? is unknown."
    )
    tested = any(p is not None for one in comparison.strategies for p in one.p.values())
    columns = (*MEASURES.values(), *(("log-rank p",) if tested else ()))
    return Table(
        name=f"Savings against {printable(comparison.baseline)}",
        caption=caption,
        groups=tuple((f"to {event}", len(columns)) for event in EVENTS),
        columns=columns * len(EVENTS),
        rows=tuple((printable(one.strategy), _saving_cells(one, tested)) for one in comparison.strategies[1:]),
    )


def facts(groups: Groups) -> list[tuple[str, str]]:
    """What was run: task, model, training, strategies."""
    runs = [run for members in groups.values() for run in members]
    spec, task = runs[0].record.spec, runs[0].record.task
    training = spec.get("train", {})
    factors = zip(task["factor_names"], task["factor_sizes"], strict=True)
    source = spec.get("task", {}).get("source", {})
    steps = sorted({run.record.spec.get("train", {}).get("steps", run.steps) for run in runs})
    return [
        ("Task", " over ".join(filter(None, [_kind(spec.get("task", {})), _kind(source)]))),
        ("Prompt", f"{task['n_pairs']} pairs of an item and one of {task['n_labels']} labels"),
        ("Hidden factor", f"one of {', '.join(map(spoken, task['hidden_factors']))}"),
        ("Factors and their sizes", ", ".join(f"{spoken(name)} {size}" for name, size in factors)),
        ("Mappings", _mappings(spec.get("task", {}))),
        ("Model", f"{_model(spec.get('model', {}))}; {task['parameters']:,} parameters"),
        (
            "Training",
            f"{' or '.join(f'{count:,}' for count in steps)} steps of {training.get('batch_size')} prompts, "
            f"Adam, learning rate {training.get('lr')}",
        ),
        ("Cut of all scores", runs[0].cut),
        ("Strategies", "; ".join(f"{printable(name)}: {seeds_words(members)}" for name, members in groups.items())),
    ]


def provenance(groups: Groups) -> list[tuple[str, list[str]]]:
    """Commands, versions and machines, each once."""
    runs = [run for members in groups.values() for run in members]
    environments = [run.record.env for run in runs]
    return [
        ("Commands", _once(str(env["run"].get("command", "not recorded")) for env in environments)),
        ("Versions", _once(_settings(env.get("versions", {})) for env in environments)),
        ("Machine", _once(_settings(env.get("machine", {})) for env in environments)),
        (
            "Seeds",
            _once(
                f"{printable(name)}: {', '.join(str(run.seed) for run in members)}" for name, members in groups.items()
            ),
        ),
        ("Run directories", [str(run.record.path) for run in runs]),
    ]


def _row_name(name: str, runs: Sequence[RunSummary]) -> str:
    return printable(name) + ("" if all(run.finished for run in runs) else "*")


def _result_cells(runs: Sequence[RunSummary]) -> tuple[Cell, ...]:
    block = max((block_of(run) for run in runs if run.weights_score), default=0)
    return (
        _time_cell(runs, "escape"),
        _time_cell(runs, "completion"),
        _median_cell(runs, lambda run: run.final_accuracy, "{:.2f}"),
        _median_cell(
            runs, lambda run: run.plateau_weights_score[block] if run.plateau_weights_score else None, "{:.2f}"
        ),
        _median_cell(runs, lambda run: run.weights_score[block] if run.weights_score else None, "{:.2f}"),
        Cell(with_unit(_median(runs, lambda run: run.costs.train_flops), "FLOP")),
        Cell(with_unit(_median(runs, lambda run: run.costs.seconds), "s")),
        Cell(with_unit(_median(runs, lambda run: run.costs.joules), "J")),
    )


def _time_cell(runs: Sequence[RunSummary], event: Event) -> Cell:
    time = median_time([time_of(run, event) for run in runs])
    reached = sum(run.reached(event) is not None for run in runs)
    return Cell(time.shown(), f"{reached} of {len(runs)}")


def _median(runs: Sequence[RunSummary], value: Callable[[RunSummary], float | None]) -> float | None:
    known = [number for run in runs if (number := value(run)) is not None]
    return median(known) if known else None


def _median_cell(runs: Sequence[RunSummary], value: Callable[[RunSummary], float | None], form: str) -> Cell:
    known = [number for run in runs if (number := value(run)) is not None]
    if not known:
        return Cell("–")  # noqa: RUF001
    low, middle, high = (form.format(number) for number in (min(known), median(known), max(known)))
    return Cell(middle, f"{low} to {high}" if low != high else "")


def _saving_cells(one: StrategyComparison, tested: bool) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for event in EVENTS:
        cells += [_saving_cell(saving) for saving in one.savings[event].values()]
        p = one.p[event]
        cells += [Cell("–" if p is None else f"{p:.2g}")] if tested else []  # noqa: RUF001
    return tuple(cells)


def _saving_cell(saving: Saving) -> Cell:
    if saving.ratio is None:
        return Cell("?")
    spread = saving.spread.shown(1) if saving.spread and saving.pairs > 1 else ""
    middle = saving.ratio.shown(1)
    return Cell(middle, spread if spread != middle else "")


def _kind(config: Mapping[str, Any]) -> str:
    return str(config.get("kind", ""))


def _mappings(task: Mapping[str, Any]) -> str:
    count = task.get("n_mappings", "not recorded")
    return "a fresh one for each prompt" if count is None else f"{count} for each factor"


def _model(config: Mapping[str, Any]) -> str:
    named = {"n_layers": "blocks", "width": "wide", "n_heads": "heads"}
    known = [f"{config[key]} {word}" for key, word in named.items() if key in config]
    rest = {key.replace("init", "initialisation"): value for key, value in config.items() if key not in named}
    return ", ".join(filter(None, [*known, _settings(rest)]))


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _once(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))
