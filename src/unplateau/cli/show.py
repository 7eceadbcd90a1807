"""``unplateau show``: everything about one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from unplateau.cli.console import duration, number, print_facts
from unplateau.cli.ls import state_of
from unplateau.store import RunRecord, load_run

if TYPE_CHECKING:
    from unplateau.analysis.runs import RunSummary

Run = Annotated[Path, Positional, arg(metavar="RUN")]


def show(run: Run, /) -> None:
    """Shows one run: spec, versions, machine, plateaus, escape, completion and costs.

    Escape is the first step from which the 100-step mean of progress stays at 0.2 or above, completion the same at 0.9.

    Args:
        run: a run directory, such as runs/demo/plain/seed-0-0123456789
    """
    import yaml  # noqa: PLC0415

    from unplateau.analysis.runs import read_figures  # noqa: PLC0415 (scipy)

    record = load_run(run)
    figures = read_figures(record)
    print_facts([*identity(record), *results(figures), *costs(figures)])
    for title, facts in (("versions", record.env.get("versions")), ("machine", record.env.get("machine"))):
        _section(title, facts or {})
    print(
        f"\nspec\n{_indented(yaml.safe_dump(dict(record.spec), sort_keys=False, default_flow_style=None, width=100))}"
    )


def identity(record: RunRecord) -> list[tuple[str, str]]:
    """Which run this is and how far."""
    return [
        ("run", f"{record.recipe}, {record.strategy}, seed {record.seed}"),
        ("state", f"{state_of(record)}, step {record.history.last('step', 0)} of {record.spec['train']['steps']}"),
        ("command", str(record.env["run"].get("command", "-"))),
    ]


def results(figures: RunSummary) -> list[tuple[str, str]]:
    """What it has learned and when. Scores are under the cut that is named."""
    from unplateau.cli.words import event_words  # noqa: PLC0415

    scores = " ".join(number(score) for score in figures.weights_score) or "-"
    return [
        ("escape", event_words(figures.escape_step, figures.steps)),
        ("completion", event_words(figures.completion_step, figures.steps)),
        *(("plateau", str(plateau).removeprefix("plateau ")) for plateau in figures.plateaus),
        ("progress", f"{number(figures.final_progress)} on {figures.final_on} items"),
        ("accuracy", f"{number(figures.final_accuracy)}; Bayes-optimal {number(figures.bayes_accuracy)}"),
        ("weights score", f"{scores} (layers 0 to {max(0, len(figures.weights_score) - 1)}, cut {figures.cut})"),
    ]


def costs(figures: RunSummary) -> list[tuple[str, str]]:
    """What its training has taken, probes excluded."""
    spent = figures.costs
    joules = "-" if spent.joules is None else f"{spent.joules:.4g} J"
    return [
        ("training FLOPs", "-" if spent.train_flops is None else f"{spent.train_flops:.3g}"),
        ("training time", "-" if spent.seconds is None else duration(spent.seconds)),
        ("energy", f"{joules} ({figures.energy_method})"),
    ]


def _section(title: str, facts: Mapping[str, Any]) -> None:
    print(f"\n{title}")
    print_facts([(f"  {name}", "-" if value is None else str(value)) for name, value in facts.items()])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
