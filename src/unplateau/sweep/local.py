"""Many runs at a time, by default each in a process of its own on this machine.

The parent learns how far a run is from its directory only, so a run that is watched and one that is not are the same.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from unplateau.damage import DAMAGE, reason
from unplateau.errors import InterruptedRunError
from unplateau.files import scratch
from unplateau.limits import refuse_none, refuse_processes
from unplateau.store import RunRecord, RunState, load_run
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.launch import Engine, local
from unplateau.sweep.plan import donors, refuse_hopeless, states
from unplateau.sweep.pool import Pool
from unplateau.sweep.process import RunProcess
from unplateau.torchrun import refuse_torchrun
from unplateau.train.interrupt import stop_requests
from unplateau.train.loop import choose_device
from unplateau.train.progress import display, is_watched
from unplateau.train.spec import RunSpec


def run_many(
    specs: Sequence[RunSpec],
    *,
    out: str | Path,
    workers: int = 2,
    threads: int = 1,
    device: str = "auto",
    progress: bool | None = None,
    engine: Engine = local,
    ended: Callable[[RunState], object] = lambda _: None,
) -> list[RunRecord | RunFailure]:
    """Trains these runs, ``workers`` at a time with ``threads`` threads each, and returns them in the order given.

    A finished run is not trained again, an interrupted one is resumed. When a run fails the others go on, and its
    place holds a :class:`RunFailure`. ``progress``: whether to show how far each is, as ``train`` does; None shows it
    where a person looks. ``engine``: what starts the processes, see ``unplateau.sweep.ray_engine``. ``ended`` is called
    with each run that has been finished.

    Raises, before the first run starts, SpecError if two specs are the same or one uses a class that another process
    cannot import, or where torchrun has started several processes of the caller, and what ``spec.check()`` does;
    EngineError if the engine cannot be used; InterruptedRunError after Ctrl-C or SIGTERM, when every running process
    has saved a checkpoint and ended.
    """
    refuse_torchrun("a sweep")
    refuse_none(workers, threads)
    if engine is local:
        refuse_processes(len(specs), workers, threads)
        if device not in ("auto", "cpu"):
            choose_device(device)
    runs = states(specs, Path(out))
    shown = display(len(runs)) if (is_watched() if progress is None else progress) else nullcontext()
    with scratch() as folder, engine(folder, threads) as launch, stop_requests() as stop, shown as show:
        refuse_hopeless(specs, runs)

        def start(number: int) -> RunProcess:
            said = folder / f"{number}.stderr"
            return RunProcess(specs[number], runs[number], Path(out), said, launch, threads=threads, device=device)

        pool = Pool(runs, Path(out), start, show or (lambda _, __: None), ended, donors(specs))
        try:
            pool.work(workers, stop)
        finally:
            pool.end()
        if any(state.state not in ("done", "failed") for state in pool.states):
            raise InterruptedRunError(pool.farewell())
        failures = {number: process.failure() for number, process in pool.processes.items()}
        return [failures.get(number) or outcome(run) for number, run in enumerate(runs)]


def outcome(run: RunState) -> RunRecord | RunFailure:
    """The run as its directory has it; one that was damaged since costs no other."""
    try:
        return load_run(run.path)
    except DAMAGE as error:
        return RunFailure(run.path, run.name, 1, f"{run.path}: {reason(run.path, error)}")
