"""Commands that train: ``demo``, ``train``, and the story that runs of an experiment tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from unplateau.cli.arguments import Folder, RecipeOrFile, Settings, refuse_unwritable
from unplateau.cli.console import print_table, warn
from unplateau.errors import SpecError
from unplateau.limits import MOST_INTEGER, refuse_runs, refuse_threads
from unplateau.train.progress import duration

if TYPE_CHECKING:
    from unplateau.recipes import Experiment
    from unplateau.store import RunRecord, RunState
    from unplateau.sweep.failure import RunFailure
    from unplateau.sweep.launch import Engine
    from unplateau.train.spec import RunSpec

SUFFIXES = (".yaml", ".yml", ".json")
OUT = Path("runs")
"""Where runs are trained, unless told otherwise."""
REPORT, SUMMARY, SUMMARY_KEYS = "report.html", "summary.json", ("runs", "comparisons")


def demo(
    *,
    out: Folder = Path("runs/demo"),
    seeds: int = 2,
    first_seed: int = 0,
    workers: int = 2,
    set_: Settings = (),
    force: bool = False,
) -> int:
    """Trains the demo plainly and with four strategies, then prints what each one saved.

    Images of one object in a room; a prompt hides whether the wall's hue or the object's size decides the label. 1,400
    steps a run, one thread each. Writes report.html and summary.json; the same command again resumes, or skips what is
    done.

    Args:
        out: folder for run directories, report.html and summary.json
        seeds: number of seeds for each strategy
        first_seed: the lowest seed; the others follow it
        workers: runs at a time, one thread each
        set_: change one key of the spec in all runs, e.g. train.steps=300 for a quicker look
        force: also replace a report.html or summary.json that is there and not of an earlier call
    """
    wanted = seeds_from(first_seed, seeds)
    refuse_unwritable(out)
    from unplateau.recipes import experiments  # noqa: PLC0415 (torch)

    return run_experiments(experiments("demo"), set_, wanted, out=out, workers=workers, force=force)


def train(
    spec: RecipeOrFile,
    /,
    *,
    set_: Settings = (),
    seed: int | None = None,
    out: Folder = OUT,
    resume: bool = True,
    device: str = "auto",
    threads: int | None = None,
    extend: Annotated[int | None, arg(metavar="STEPS")] = None,
    init_from: Annotated[Path | None, arg(metavar="RUN")] = None,
    check: bool = False,
) -> None:
    """Trains one run; the same command again resumes it, or does nothing when it is finished.

    Ctrl-C and SIGTERM save a checkpoint first. A run can be made longer afterwards: `train RUN --extend 4000`, or the
    same command with --extend.

    On several GPUs: `torchrun -m unplateau train ...` with a process for each (docs/concepts/devices.md), which then
    computes its rows of every batch; with --set train.sharded=true each also keeps a part of the weights only.

    Args:
        spec: name of a recipe (demo, shapes, digits, words, word-selection, labelled-text, recall,
            clusters, parity, regression), a .yaml or .json file with the keys of a run, or a run directory
        set_: change one key of the spec, e.g. train.steps=300, strategy=unplateau, task.n_mappings=null,
            train.optimiser=muon (adam, adamw, muon, soap, schedule-free), train.gradient_filter=grokfast,
            train.schedule=cosine (constant, cosine, warm-up-stable-decay), and on a GPU train.execution=graphed (eager,
            graphed, compiled)
        seed: decides initial weights and batches; default: that of the spec
        out: folder that run directories are made in
        resume: go on where an earlier process stopped; with --no-resume an existing run is refused
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 ...
        threads: CPU threads of PyTorch; default: its own choice
        extend: go on with the run until it has this many steps, exactly as if it had been as long from the start
        init_from: begin with the last weights of the run in this directory, which must be below --out
        check: only check the spec, its data, and that its strategy fits, and train nothing
    """
    if threads is not None:
        refuse_threads(threads)
    longer_in_place = extend is not None and _spec_file(spec) is not None
    if extend is not None and check:
        raise SpecError("--check: not with --extend, which trains")
    if longer_in_place and (set_ or seed is not None or init_from is not None or out != OUT or not resume):
        raise SpecError(
            f"--extend goes on with {spec} as it is, where it is: --set, --seed, --init-from, --out and --no-resume "
            "are for other runs"
        )
    if not (check or longer_in_place):
        refuse_unwritable(out)
    import torch  # noqa: PLC0415

    from unplateau import store  # noqa: PLC0415
    from unplateau.train import loop  # noqa: PLC0415
    from unplateau.train.extend import extend as go_on  # noqa: PLC0415

    run = _named_run(spec, set_, seed)
    if init_from is not None:
        run = run.init_from(store.load_run(init_from))
    if threads is not None:
        torch.set_num_threads(threads)
    loop.choose_device(device)  # a wrong name is refused before anything is begun
    if extend is not None:
        record = go_on(spec if longer_in_place else run.directory(out), extend, device=device, progress=True)
        print(f"done: {_how_it_ended(record)}")
        return
    folder, name = run.directory(out), f"{run.recipe}, {run.strategy.name}, seed {run.seed}"
    if resume and not check and store.is_done(folder, run.train.steps):
        print(f"finished before: {_how_it_ended(store.load_run(folder))}")
        return
    from_file = spec.endswith(SUFFIXES) and not set_  # settings may have changed what is written there
    run.check(where=spec if from_file else "")
    if check:
        print(f"ok: {name}: {run.train.steps} steps, to be trained in {folder}")
        return
    record = loop.train(run, out=out, device=device, resume=resume, progress=True)
    print(f"done: {_how_it_ended(record)}")


def _named_run(name: str, settings: Sequence[str], seed: int | None) -> RunSpec:
    """A recipe, a spec file, or the spec of a run directory, with settings."""
    return given_spec(str(_spec_file(name) or name), settings, seed)


def _spec_file(name: str) -> Path | None:
    """That of a run directory; None for any other name."""
    from unplateau.store import SPEC  # noqa: PLC0415 (numpy)

    file = Path(name) / SPEC
    return file if file.is_file() else None


def given_spec(name: str, settings: Sequence[str], seed: int | None = None) -> RunSpec:
    """The recipe or the spec file of this name, with settings. Raises SpecError, one line, if something is wrong."""
    from unplateau import recipes  # noqa: PLC0415 (torch)
    from unplateau.train.spec import read_spec, spec_of, with_settings  # noqa: PLC0415

    spec = read_spec(name) if name.endswith(SUFFIXES) else spec_of(recipes.recipe(name))
    spec = with_given(spec, settings)
    return spec if seed is None else with_settings(spec, [("seed", seed)])


def with_given(spec: RunSpec, settings: Sequence[str]) -> RunSpec:
    """The spec with settings as ``--set`` gives them. Raises SpecError, one line, if something is wrong."""
    from unplateau.train.spec import read_value, split_setting, with_settings  # noqa: PLC0415 (torch)

    pairs = [split_setting(text) for text in settings]
    return with_settings(spec, [(key, read_value(value, where=key)) for key, value in pairs])


def seeds_from(first: int, count: int) -> range:
    """``count`` seeds from ``first`` on. Raises SpecError if that is none, or a negative one."""
    if count < 1 or first < 0:
        raise SpecError(f"--seeds must be at least 1 and --first-seed at least 0 (got {count} and {first})")
    if first + count - 1 > MOST_INTEGER:
        raise SpecError(f"--first-seed {first}: a seed has at most 64 bits")
    refuse_runs(f"--seeds {count}", count)
    return range(first, first + count)


def run_experiments(
    experiments: Sequence[Experiment],
    settings: Sequence[str],
    seeds: range,
    *,
    out: Path,
    workers: int,
    apart: bool = False,
    force: bool = False,
) -> int:
    """Trains each experiment with settings, tells its story, and returns the exit code.

    ``apart``: each story has a folder of its own, named after the recipe. ``force``: replaces a report or a summary
    that is not ours.
    """
    chosen = [replace(one, plain=with_given(one.plain, settings)) for one in experiments]
    for one in chosen:  # all of them, before the first run
        check_outputs(out / one.plain.recipe if apart else out, force=force)
        one.plain.check()
    codes = []
    for one in chosen:
        records, code = run_all(one.specs(seeds), out=out, workers=workers)
        codes.append(code)
        if records and apart:
            print(f"\n{one.plain.recipe}\n")
        if records:
            folder = out / one.plain.recipe if apart else out
            tell_story([record.path for record in records], folder, force=force)
    return max(codes)


def run_all(
    specs: Sequence[RunSpec],
    *,
    out: Path,
    workers: int,
    threads: int = 1,
    device: str = "auto",
    engine: Engine | None = None,
    ended: Callable[[RunState], object] = lambda _: None,
) -> tuple[list[RunRecord], int]:
    """The finished runs, and 1 if any failed: each is named on standard error, after the progress.

    ``engine``: None for processes on this machine. ``ended`` is called with each run that has been finished.
    """
    from unplateau.sweep.launch import local  # noqa: PLC0415
    from unplateau.sweep.local import run_many  # noqa: PLC0415 (torch)

    where: dict[str, Any] = {"out": out, "workers": workers, "threads": threads, "device": device}
    return without_failures(run_many(specs, **where, progress=True, engine=engine or local, ended=ended))


def run_stacked(
    specs: Sequence[RunSpec],
    *,
    out: Path,
    most: int | None,
    threads: int = 1,
    device: str = "auto",
    ended: Callable[[RunState], object] = lambda _: None,
) -> tuple[list[RunRecord], int]:
    """The same in this process, where runs of one shape compute as one, ``most`` at a time."""
    import torch  # noqa: PLC0415

    from unplateau.limits import refuse_none, refuse_threads  # noqa: PLC0415
    from unplateau.sweep.stacked import MOST, train_many  # noqa: PLC0415

    most = MOST if most is None else most
    refuse_none(most, threads)
    refuse_threads(threads)
    torch.set_num_threads(threads)
    return without_failures(train_many(specs, out=out, device=device, most=most, progress=True, ended=ended))


def without_failures(results: Sequence[RunRecord | RunFailure]) -> tuple[list[RunRecord], int]:
    """The finished runs, and 1 if any failed: each is named on standard error."""
    from unplateau.store import RunRecord  # noqa: PLC0415

    failures = [one for one in results if not isinstance(one, RunRecord)]
    for failure in failures:
        warn(f"{failure.name}: {failure.message}")
    if failures:
        warn(f"{len(failures)} of {len(results)} runs failed")
    return [one for one in results if isinstance(one, RunRecord)], 1 if failures else 0


def check_outputs(out: Path, *, force: bool) -> None:
    """Raises OutputError where :func:`tell_story` could not write, before anything is trained."""
    from unplateau.outputs import demand_replaceable, keyed, marked  # noqa: PLC0415 (numpy)

    demand_replaceable(out / REPORT, marked("html"), force=force)
    demand_replaceable(out / SUMMARY, keyed(*SUMMARY_KEYS), force=force)


def tell_story(runs: Sequence[Path], out: Path, *, force: bool = False) -> None:
    """What the runs of one experiment have shown: prints a table, and writes and names a report and a summary."""
    from unplateau.analysis.columns import known_results, mark, results_caption, which_score  # noqa: PLC0415 (scipy)
    from unplateau.analysis.compare import by_strategy, summarise  # noqa: PLC0415
    from unplateau.analysis.runs import MILESTONES  # noqa: PLC0415
    from unplateau.files import json_bytes  # noqa: PLC0415
    from unplateau.outputs import keyed, write_output  # noqa: PLC0415
    from unplateau.report.page import reportable, write_report  # noqa: PLC0415 (matplotlib)
    from unplateau.report.style import printable  # noqa: PLC0415

    found = reportable(runs)
    summary = summarise(found)
    groups = by_strategy(summary.runs)
    ratios: dict[tuple[str, str], str] = {
        (one.name, milestone): saving["steps"].cell.text
        for comparison in summary.comparisons
        for one in comparison.strategies
        for milestone, saving in one.savings.items()
    }
    columns = [("strategy", [printable(name) + mark(members) for name, members in groups.items()])]
    for column in known_results(summary.runs):
        columns.append((column.name, [column.cell(members).text for members in groups.values()]))
        if column.name in MILESTONES:  # beside a step, how many times sooner it is than that of the baseline
            columns.append(("x", [ratios.get((name, column.name), "") for name in groups]))
    print_table([head for head, _ in columns], zip(*(cells for _, cells in columns), strict=True))
    print(f"\n{results_caption(groups)}")
    score = f"Score: {which_score(summary.runs)}. " if any(run.weights_score for run in summary.runs) else ""
    print(f"{score}x: steps of plain training / steps of the strategy.")
    write_output(out / SUMMARY, json_bytes(summary.as_dict()), keyed(*SUMMARY_KEYS), force=force)
    print(f"\nreport   {write_report(found, out / REPORT, force=force)}\nsummary  {out / SUMMARY}")


def _how_it_ended(record: RunRecord) -> str:
    done = record.done or {}
    measure = "accuracy" if "test_accuracy" in done else "loss"  # numbers have no accuracy
    return (
        f"{record.path}: {done['step']} steps, {record.tested_on} {measure} {done[f'test_{measure}']:.2f}, "
        f"progress {done['test_progress']:.2f}, {duration(done['seconds'])} of training"
    )
