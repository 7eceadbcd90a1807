"""Runs as jobs of Slurm, through submitit (extra ``slurm``); with its ``cluster=local`` as processes of this machine.

Each run is a job of its own, so that the end of one, by its time limit too, is no other's. A run whose job still waits
or goes on, because another command has handed it in, gets no second one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unplateau.errors import EngineError, SpecError, missing_extra
from unplateau.files import write_whole
from unplateau.sweep.launch import Launch, Watched
from unplateau.sweep.slurm_queue import Queue, most_in_array
from unplateau.sweep.worker import STOPPED, Job, recorded

LOGS = ".slurm"
"""Folder beside the runs for what submitit writes, and of each run the number of its job: all machines must see it."""
LATENCY = 15.0
"""Seconds until the result of a job that has ended is seen on a shared file system."""


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
        queue = Queue() if executor.cluster == "slurm" else None

        def launch(job: Job, said: Path) -> SlurmJob:
            if queue and (before := self._in_queue(job, queue)):
                return SlurmJob(before, said, queue)
            with submission_errors():
                submitted = executor.submit(recorded, whole(job))
            if queue:
                self._note(job, submitted.job_id)
                queue.renew()
            return SlurmJob(submitted, said, queue)

        yield launch

    def submit(self, waves: Sequence[Sequence[Job]], workers: int, threads: int) -> list[str]:
        """Hands in those that are not in the queue, ``workers`` of them at a time, and leaves; returns their numbers.

        They are arrays as long as Slurm allows, each of which begins when the one before has ended; no array has jobs
        of two waves. Raises SpecError for ``cluster=local``, which begins all at once, if they are more than
        ``workers``.
        """
        executor = self._executor(threads)
        if executor.cluster != "slurm":
            jobs = [job for wave in waves for job in wave]
            if len(jobs) > workers:
                raise SpecError(f"--detach: cluster=local begins all {len(jobs)} runs at once, --workers are {workers}")
            return [executor.submit(recorded, whole(job)).job_id for job in jobs]
        queue, most = Queue(), most_in_array()
        left = [[job for job in wave if not self._in_queue(job, queue)] for wave in waves]
        numbers: list[str] = []
        executor.update_parameters(slurm_array_parallelism=workers)
        for part in (wave[first : first + most] for wave in left for first in range(0, len(wave), most)):
            if numbers:
                executor.update_parameters(slurm_dependency=f"afterany:{numbers[-1].partition('_')[0]}")
            with submission_errors():
                array = executor.map_array(recorded, [*map(whole, part)])
            for job, submitted in zip(part, array, strict=True):
                self._note(job, submitted.job_id)
                numbers.append(submitted.job_id)
        return numbers

    def _in_queue(self, job: Job, queue: Queue) -> Any | None:
        """What submitit knows of the job that this run has there already."""
        import submitit  # noqa: PLC0415

        with suppress(OSError):
            found: Any = submitit.SlurmJob(self._folder, self._place(job).read_text(encoding="ascii"))
            return None if found.paths.result_pickle.exists() or queue.has_ended(found.job_id) else found
        return None

    def _note(self, job: Job, number: str) -> None:
        write_whole(self._place(job), number.encode())

    def _place(self, job: Job) -> Path:
        return self.out.resolve() / LOGS / "jobs" / job.run

    @property
    def _folder(self) -> Path:
        """Of a job, in submitit's words."""
        return self.out.resolve() / LOGS / "%j"

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
        if cluster == "slurm":
            wanted.setdefault("slurm_srun_args", [f"--cpus-per-task={threads}"])  # not inherited since Slurm 22.05
            if not {"timeout_min", "slurm_time"} & wanted.keys():
                wanted["slurm_time"] = None  # that of the partition; submitit would ask for five minutes
        try:
            executor = submitit.AutoExecutor(folder=self._folder, cluster=cluster)
            executor.update_parameters(**wanted)
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise SpecError(f"--option: {_first_line(error)}") from error
        except RuntimeError as error:
            raise EngineError(f"--engine slurm: {_first_line(error)}") from error
        return executor


@contextmanager
def submission_errors() -> Iterator[None]:
    """Turns Slurm's refusal of a job into one line."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415

    try:
        yield
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise EngineError(f"--engine slurm: the job was refused ({_first_line(error)})") from error


def whole(job: Job) -> Job:
    """The same for a process that begins in any folder."""
    return replace(job, out=str(Path(job.out).resolve()))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class SlurmJob(Watched):
    """A run as a job. ``queue``: where Slurm says how it is; None for a process of this machine."""

    def __init__(self, job: Any, said: Path, queue: Queue | None) -> None:
        self._job, self._said, self._queue = job, said, queue
        said.touch()
        self._asked = False
        self._gone: float | None = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """See :class:`~unplateau.sweep.launch.Handle`."""
        if self.returncode is None and self._has_ended():
            self.returncode, words = self._result()
            self._said.write_text(words, encoding="utf-8")
        return self.returncode

    def _has_ended(self) -> bool:
        if self._queue is None:
            return bool(self._job.done())
        if self._job.paths.result_pickle.exists():
            return True
        if not self._queue.has_ended(self._job.job_id):
            self._gone = None
            return False
        if self._gone is None:
            self._gone = time.monotonic()
        return self._asked or time.monotonic() - self._gone > LATENCY

    def _result(self) -> tuple[int, str]:
        log = f"its log: {self._job.paths.stderr}"
        if self._queue is not None and not self._job.paths.result_pickle.exists():
            state = self._queue.state(self._job.job_id) or "gone"
            words = f"job {self._job.job_id}: {state}, without a result ({log}); run the same command again to resume"
            return (STOPPED, "") if self._asked else (1, words)
        try:
            code, words = self._job.result()
        except Exception as error:
            if self._asked:
                return STOPPED, ""
            return 1, f"job {self._job.job_id}: {_first_line(error)} ({log}); run the same command again"
        return code, words

    def terminate(self) -> None:
        """Cancels the job, which saves first."""
        self._asked = True
        with suppress(Exception):
            self._job.cancel()

    def kill(self) -> None:
        """The same: Slurm itself kills what does not end."""
        self.terminate()
