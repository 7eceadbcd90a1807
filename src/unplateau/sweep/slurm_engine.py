"""Runs as jobs of Slurm, through submitit (extra ``slurm``); with its ``cluster=local`` as processes of this machine.

Each run is a job of its own, so that the end of one, by its time limit too, is no other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unplateau.errors import EngineError, SpecError, missing_extra
from unplateau.sweep.launch import Launch, Watched
from unplateau.sweep.worker import STOPPED, Job, recorded

LOGS = ".slurm"
"""Folder beside the runs for what submitit writes: it must be seen by all machines."""


@dataclass(frozen=True)
class SlurmEngine:
    """``out``: folder of the runs. ``gpus`` of a run. ``options``: submitit's, such as ``slurm_partition``."""

    out: Path
    gpus: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def __call__(self, _: Path, threads: int) -> Iterator[Launch]:
        """See ``unplateau.sweep.launch.Engine``. Raises MissingExtraError, EngineError, SpecError."""
        executor = self._executor(threads)

        def launch(job: Job, said: Path) -> SlurmJob:
            with submission_errors():
                return SlurmJob(executor.submit(recorded, whole(job)), said)

        yield launch

    def submit(self, jobs: Sequence[Job], workers: int, threads: int) -> list[str]:
        """Hands all in as one array, ``workers`` of them at a time, and leaves; returns their numbers."""
        executor = self._executor(threads)
        if executor.cluster == "slurm":
            executor.update_parameters(slurm_array_parallelism=workers)
        with submission_errors():
            return [job.job_id for job in executor.map_array(recorded, [*map(whole, jobs)])]

    def _executor(self, threads: int) -> Any:
        try:
            import submitit  # noqa: PLC0415
        except ImportError as error:
            raise missing_extra("--engine slurm needs submitit", "slurm") from error
        if not float(self.gpus).is_integer():
            raise SpecError(f"--gpus {self.gpus:g}: Slurm gives whole GPUs only")
        wanted = {"name": "unplateau", "cpus_per_task": threads, **self.options}
        cluster = wanted.pop("cluster", "slurm")
        if self.gpus:
            wanted["gpus_per_node"] = int(self.gpus)
        try:
            executor = submitit.AutoExecutor(folder=self.out.resolve() / LOGS / "%j", cluster=cluster)
            executor.update_parameters(**wanted)
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise SpecError(f"--option: {_first_line(error)}") from error
        except RuntimeError as error:
            raise EngineError(f"--engine slurm: {_first_line(error)}") from error
        return executor


@contextmanager
def submission_errors() -> Iterator[None]:
    """Turns Slurm's refusal of a job into one line."""
    from submitit.core.utils import FailedSubmissionError  # noqa: PLC0415

    try:
        yield
    except (FailedSubmissionError, OSError) as error:
        raise EngineError(f"--engine slurm: the job was refused ({_first_line(error)})") from error


def whole(job: Job) -> Job:
    """The same for a process that begins in any folder."""
    return replace(job, out=str(Path(job.out).resolve()))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class SlurmJob(Watched):
    """A run as a job."""

    def __init__(self, job: Any, said: Path) -> None:
        self._job, self._said = job, said
        said.touch()
        self._asked = False
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """See :class:`~unplateau.sweep.launch.Handle`."""
        if self.returncode is None and self._job.done():
            self.returncode, words = self._result()
            self._said.write_text(words, encoding="utf-8")
        return self.returncode

    def _result(self) -> tuple[int, str]:
        try:
            code, words = self._job.result()
        except Exception as error:
            if self._asked:
                return STOPPED, ""
            log = self._job.paths.stderr
            return 1, f"job {self._job.job_id}: {_first_line(error)} (its log: {log}); run the same command again"
        return code, words

    def terminate(self) -> None:
        """Cancels the job, which saves first."""
        self._asked = True
        with suppress(Exception):
            self._job.cancel()

    def kill(self) -> None:
        """The same: Slurm itself kills what does not end."""
        self.terminate()
