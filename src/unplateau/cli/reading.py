"""Commands that read run directories: ``compare``, ``report``, ``ls``, ``show``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from unplateau.cli.arguments import Folder, PositionalFolder
from unplateau.cli.console import number, print_facts, print_json, print_table
from unplateau.damage import DAMAGE, readable, reason
from unplateau.errors import RunDirectoryError, SpecError
from unplateau.files import is_held
from unplateau.store import LOCK, RunRecord, find_runs, glance, load_run
from unplateau.train.progress import duration

if TYPE_CHECKING:
    from unplateau.analysis.runs import RunSummary


def compare(
    folder: PositionalFolder, /, *, baseline: str = "plain", json: Annotated[bool, arg(name="json")] = False
) -> None:
    """Compares the strategies, and other settings that differ, among the runs below a folder with a baseline.

    Steps to escape and to completion are medians over seeds; "> N" where runs ended before they got there. Ratios are
    cost of the baseline / cost of the row, in steps, training FLOPs, seconds and joules. Settings that differ have
    columns; what is compared with what stands below the tables. Damaged runs are left out, and named on standard error
    and as left_out in JSON; the exit code is 1 if no other is there.

    Args:
        folder: a folder of run directories
        baseline: what the others are compared with, under their own settings: a strategy (plain), settings (lr=0.001),
            or both (plain, lr=0.001); of a single strategy by default the lowest settings
        json: print JSON instead of tables
    """
    from unplateau.analysis.compare import compare as compare_runs  # noqa: PLC0415

    comparison = compare_runs(folder, baseline)
    if json:
        print_json(comparison.as_dict())
    else:
        print(comparison)


def report(
    folders: Annotated[tuple[Path, ...], Positional, arg(metavar="DIR [DIR ...]")],
    /,
    *,
    out: Annotated[Path, arg(metavar="FILE")] = Path("report.html"),
    figures: Folder | None = None,
    format_: Annotated[Literal["png", "svg", "pdf"], arg(name="format")] = "png",
    csv: bool = False,
    force: bool = False,
) -> None:
    """Writes a report about the runs below these folders: one HTML file that opens without a network.

    Damaged runs are named on standard error and in the report, and left out; the exit code is 1 if no other is there.

    Args:
        folders: run directories, or folders of them; each choice of the settings that differ has its row and panels
        out: the HTML file to write
        figures: also write each figure into this folder
        format_: file format of these figures
        csv: also write the numbers of each figure as CSV, into the folder of the figures
        force: also replace files that are there and not of earlier reports
    """
    from unplateau.outputs import demand_replaceable, marked  # noqa: PLC0415
    from unplateau.report import save_figures, write_report, write_results  # noqa: PLC0415 (matplotlib)
    from unplateau.report.page import reportable  # noqa: PLC0415

    if not folders:
        raise SpecError("report: DIR is missing")
    if csv and figures is None:
        raise SpecError("--csv: it needs --figures FOLDER to say where to")
    demand_replaceable(out, marked("html"), force=force)
    runs = reportable(folders)
    written: list[Path] = []
    if figures is not None:
        if csv:
            written.append(write_results(runs, figures / "results.csv", force=force))
        written += save_figures(runs, figures, (format_, "csv") if csv else (format_,), force=force)
    print(write_report(runs, out, force=force), *written, sep="\n")


def ls(folder: PositionalFolder = Path("runs"), /) -> None:
    """Lists the runs below a folder: strategy, seed, step, progress, and whether they are done.

    Progress is 0 on the plateau and 1 at the Bayes-optimal predictor. An interrupted run is resumed by the command
    that began it. Damaged runs are named on standard error and left out; the exit code is 1 if no other is there.

    Args:
        folder: a folder of run directories
    """
    print_runs(find_runs(folder))


def print_runs(paths: Sequence[Path]) -> None:
    """A table with a row for each run; damaged ones are named on standard error and left out."""
    if paths:
        rows, _ = readable(paths, _row)
        print_table(("recipe", "strategy", "seed", "step", "progress", "state", "directory"), rows)


def _row(path: Path) -> tuple[str, ...]:
    """What its small files and its last row say: thousands of runs are listed at once."""
    record = glance(path)
    step = f"{record.history.last('step', 0)}/{record.spec['train']['steps']}"
    progress = number(record.history.last("progress"))
    return (record.recipe, record.strategy, str(record.seed), step, progress, state_of(record), str(path))


def state_of(record: RunRecord) -> str:
    """``done``, ``running`` or ``interrupted``."""
    if record.done is not None:
        return "done"
    return "running" if is_held(record.path / LOCK) else "interrupted"


def show(run: Annotated[Path, Positional, arg(metavar="RUN")], /) -> None:
    """Shows one run: spec, versions, machine, plateaus, escape, completion and costs.

    Escape is the first step from which the 100-step mean of progress stays at 0.2 or above, completion the same at 0.9.

    Args:
        run: a run directory, such as runs/demo/plain/seed-0-0123456789
    """
    import yaml  # noqa: PLC0415

    from unplateau.analysis.runs import summarise_run  # noqa: PLC0415 (scipy)

    try:
        record = load_run(run)
        results = _results(summarise_run(record))
    except DAMAGE as error:
        raise RunDirectoryError(f"{run}: {reason(run, error)}") from error
    identity = [
        ("run", f"{record.recipe}, {record.strategy}, seed {record.seed}"),
        ("state", f"{state_of(record)}, step {record.history.last('step', 0)} of {record.spec['train']['steps']}"),
        ("command", str(record.env["run"].get("command", "-"))),
    ]
    print_facts([*identity, *results])
    for title in ("versions", "machine"):
        print(f"\n{title}")
        facts = record.env.get(title) or {}
        print_facts([(f"  {name}", "-" if value is None else str(value)) for name, value in facts.items()])
    spec = yaml.safe_dump(dict(record.spec), sort_keys=False, default_flow_style=None, width=100)
    print("\n".join(["", "spec", *(f"  {line}" for line in spec.splitlines())]))


def _results(run: RunSummary) -> list[tuple[str, str]]:
    """What it has learned and when, scores under the cut that is named; what its training has cost, without probes."""
    accuracy = f"{number(run.final_accuracy)}; Bayes-optimal {number(run.bayes_accuracy)}"
    layers = f" (layers 0 to {len(run.weights_score) - 1}, cut {run.cut})" if run.weights_score else ""
    scores = " ".join(number(score) for score in run.weights_score) or "-"
    spent = run.costs
    joules = "-" if spent.joules is None else f"{spent.joules:.4g} J"
    return [
        ("escape", _when(run.escape_step, run.steps)),
        ("completion", _when(run.completion_step, run.steps)),
        *(("plateau", str(plateau).removeprefix("plateau ")) for plateau in run.plateaus),
        ("progress", f"{number(run.final_progress)} on {run.final_on} items"),
        *([] if run.bayes_accuracy is None else [("accuracy", accuracy)]),
        ("weights score", f"{scores}{layers}"),
        ("training FLOPs", "-" if spent.train_flops is None else f"{spent.train_flops:.3g}"),
        ("training time", "-" if spent.seconds is None else duration(spent.seconds)),
        ("energy", f"{joules} ({run.energy_method})"),
    ]


def _when(step: int | None, last: int) -> str:
    return f"not by step {last}" if step is None else f"step {step}"
