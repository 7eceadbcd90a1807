"""Hands the runs of a sweep in and leaves: the run directories are the way back."""

from collections.abc import Sequence
from pathlib import Path

from unplateau.errors import SpecError
from unplateau.sweep.launch import Engine
from unplateau.sweep.plan import plan, refuse_hopeless, states, waves
from unplateau.sweep.process import job_of
from unplateau.sweep.slurm_engine import SlurmEngine
from unplateau.train.spec import RunSpec


def hand_in(
    specs: Sequence[RunSpec], out: Path, engine: Engine | None, *, workers: int, threads: int, device: str
) -> list[str]:
    """Numbers of the new jobs: of all runs that are neither finished nor going on, nor wait for their turn already.

    Raises SpecError if the engine cannot do without us, and for what ``run_many`` refuses.
    """
    if not isinstance(engine, SlurmEngine):
        raise SpecError("--detach: only with --engine slurm; the others end with the command")
    refuse_hopeless(specs, states(specs, out))
    left = [number for number, one in enumerate(plan(specs, out)) if one.found not in ("done", "running")]
    jobs = {number: job_of(specs[number], out, threads=threads, device=device) for number in left}
    return engine.submit([[jobs[number] for number in wave] for wave in waves(specs, left)], workers, threads)
