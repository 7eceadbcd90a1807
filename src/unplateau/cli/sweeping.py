"""The command ``sweep``: many runs, on an engine; what they have shown appears while it goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction, arg

from unplateau.cli.arguments import Folder, RecipeOrFile, Settings, refuse_unwritable
from unplateau.cli.console import note, print_facts, print_table
from unplateau.cli.results import Results
from unplateau.cli.running import given_spec, run_all, run_stacked, seeds_from
from unplateau.limits import refuse_none
from unplateau.train.progress import duration

if TYPE_CHECKING:
    from unplateau.store import RunRecord, RunState
    from unplateau.sweep.cost import Cost
    from unplateau.sweep.launch import Engine
    from unplateau.train.spec import RunSpec


@dataclass(frozen=True)
class EngineOptions:
    """Where runs are trained.

    Args:
        engine: local (processes of this machine), stack (this process alone, in which runs of one shape compute as
            one), ray (a cluster of Ray, or Ray on this machine), or slurm (jobs, through submitit); runs and what they
            write are the same
        workers: runs at a time; default: 2, or 32 with stack
        threads: CPU threads of each run
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 ...
        gpus: GPUs of each run, with ray or slurm; ray gives fractions
        address: of a running Ray cluster, HOST:PORT, ray://HOST:PORT or auto; default: Ray is started on this machine
        option: of the engine. ray: retries=3 (default: 2); slurm: submitit's, such as slurm_partition=gpu,
            timeout_min=120, or cluster=local for jobs that are processes of this machine
        detach: with slurm, hand in what is not finished and leave; unplateau ls shows how far it is
    """

    engine: str = "local"
    workers: int | None = None
    threads: int = 1
    device: str = "auto"
    gpus: float = 0.0
    address: Annotated[str | None, arg(metavar="HOST:PORT")] = None
    option: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE"), UseAppendAction] = ()
    detach: bool = False

    @property
    def processes(self) -> int:
        """Runs at a time where each has a process of its own."""
        return 2 if self.workers is None else self.workers


Where = Annotated[EngineOptions, arg(name="")]
LOCALLY = EngineOptions()
"""The default."""


def sweep(
    spec: RecipeOrFile,
    /,
    *,
    axis: Annotated[tuple[str, ...], arg(metavar="A.B=V1,V2"), UseAppendAction] = (),
    set_: Settings = (),
    seeds: int = 1,
    first_seed: int | None = None,
    where: Where = LOCALLY,
    out: Folder = Path("runs"),
    dry_run: bool = False,
) -> int:
    """Trains every combination of the axes' values, times seeds, several runs at a time.

    The same command again skips what is finished and resumes what is not. When a run fails the others go on. Whenever a
    run ends, a line says how many of its setting have escaped from the plateau, and the median step.

    Args:
        spec: name of a recipe (demo, shapes, digits, words, word-selection, labelled-text, recall,
            clusters, parity, regression), or a .yaml or .json file with the keys of a run
        axis: a key of the spec and its values, e.g. strategy=plain,mixed or train.lr=1e-3,1e-2
        set_: change one key of the spec in all runs, e.g. train.steps=300
        seeds: number of seeds for each combination
        first_seed: the lowest seed, by default that of the spec; the others follow it
        where: where runs are trained
        out: folder that run directories are made in
        dry_run: only list the runs, how far each is, and the FLOPs, hours and kWh that the rest will take
    """
    refuse_none(1 if where.workers is None else where.workers, where.threads)
    if not dry_run:
        refuse_unwritable(out)
    from unplateau.cli.reading import print_runs  # noqa: PLC0415 (numpy)
    from unplateau.train.spec import expand, read_axis  # noqa: PLC0415 (torch)

    engine = _engine(where, out)
    axes = [read_axis(text) for text in axis]
    base = given_spec(spec, set_)
    specs = expand(base, axes, seeds_from(base.seed if first_seed is None else first_seed, seeds))
    if dry_run:
        _print_plan(specs, out, where)
        return 0
    if where.detach:
        _hand_in(specs, out, engine, where)
        return 0
    results = Results(specs, axes, out)
    records, code = _trained(specs, out, engine, where, lambda run: note(results.line(run)))
    print_runs([record.path for record in records])
    if records:
        print()
        results.print()
    return code


def _trained(
    specs: Sequence[RunSpec],
    out: Path,
    engine: Engine | None,
    where: EngineOptions,
    ended: Callable[[RunState], object],
) -> tuple[list[RunRecord], int]:
    """The finished runs, and 1 if any failed; without an engine they are trained in this process."""
    if engine is not None:
        workers, threads, device = where.processes, where.threads, where.device
        return run_all(specs, out=out, workers=workers, threads=threads, device=device, engine=engine, ended=ended)
    threads, device = where.threads, where.device
    return run_stacked(specs, out=out, most=where.workers, threads=threads, device=device, ended=ended)


def _engine(where: EngineOptions, out: Path) -> Engine | None:
    from unplateau.sweep.engines import engine_named  # noqa: PLC0415 (torch)
    from unplateau.train.spec import read_value, split_setting  # noqa: PLC0415

    pairs = [split_setting(text) for text in where.option]
    options = {key: read_value(value, where=f"--option {key}") for key, value in pairs}
    return engine_named(where.engine, out=out, address=where.address, gpus=where.gpus, options=options)


def _hand_in(specs: Sequence[RunSpec], out: Path, engine: Engine | None, where: EngineOptions) -> None:
    """Says what was handed in, and the way back to it."""
    from unplateau.sweep.detach import hand_in  # noqa: PLC0415

    if not (ids := hand_in(specs, out, engine, workers=where.processes, threads=where.threads, device=where.device)):
        print("nothing to do: all runs are finished, going on, or handed in already")
        return
    print(
        f"handed in {len(ids)} of {len(specs)} runs, jobs {ids[0]} to {ids[-1]}; how far they are: unplateau ls {out}"
    )


def _print_plan(specs: Sequence[RunSpec], out: Path, where: EngineOptions) -> None:
    """Each run and how far it is; then how many there are, the cost of what is left, and how that is known."""
    from unplateau.analysis.columns import with_unit  # noqa: PLC0415 (scipy)
    from unplateau.sweep.cost import cost  # noqa: PLC0415
    from unplateau.sweep.plan import plan  # noqa: PLC0415

    planned = plan(specs, out)
    rows = [(one.name, f"{one.step}/{one.spec.train.steps}", one.found, str(one.path)) for one in planned]
    print_table(("run", "step", "state", "directory"), rows)
    left = cost(planned, device=where.device, threads=where.threads)
    found = [one.found for one in planned]
    counts = ", ".join(f"{found.count(name)} {name}" for name in dict.fromkeys(found))
    print()
    print_facts(
        [
            ("runs", f"{len(planned)}: {counts}"),
            ("left", f"{with_unit(left.flops, 'FLOP')} of training"),
            ("time", _time(left, where)),
            ("energy", _energy(left)),
            ("known", _known(left)),
        ]
    )


def _time(left: Cost, where: EngineOptions) -> str:
    """One after the other, and as many at a time as are asked for and, on this machine, there are cores for.

    What stacks save is not known before.
    """
    cores = max(1, (os.cpu_count() or 1) // where.threads)
    at_once = {"local": min(where.processes, cores), "stack": 1}.get(where.engine, where.processes)
    alone = f"about {duration(left.spent.seconds)} one after the other"
    if min(at_once, len(left.left)) < 2:
        return alone
    return f"about {duration(left.seconds(at_once))} with {at_once} at a time, if none slows another; {alone}"


def _energy(left: Cost) -> str:
    joules = left.spent.joules
    return "not known" if joules is None else f"about {joules / 3.6e6:.3g} kWh ({left.method})"


def _known(left: Cost) -> str:
    """What the figures were taken from."""
    if not left.left:
        return "all is done"
    sources = []
    if left.kinds["finished"]:
        sources.append(_counted(left.finished, "finished run"))
    if left.kinds["tried"]:
        sources.append(f"trials of {_counted(left.kinds['tried'], 'kind')} of run on this machine")
    if left.kinds["reckoned"]:
        sources.append(f"FLOPs, for {_counted(left.kinds['reckoned'], 'kind')} more")
    return f"from {', '.join(sources)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
