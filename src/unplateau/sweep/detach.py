"""Hands the runs of a sweep in and leaves: the run directories are the way back."""

from collections.abc import Sequence
from pathlib import Path

from unplateau.errors import SpecError
from unplateau.sweep.launch import Engine
from unplateau.sweep.plan import plan, refuse_hopeless, states
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
    left = [one.spec for one in plan(specs, out) if one.found not in ("done", "running")]
    jobs = [job_of(spec, out, threads=threads, device=device) for spec in left]
    return engine.submit(jobs, workers, threads) if jobs else []
