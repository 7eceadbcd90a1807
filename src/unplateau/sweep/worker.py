"""One run in a process of its own: ``python -m unplateau.sweep.worker`` with a :class:`Job` as JSON on standard input.

On failure it leaves one line on standard error. It stops by itself, after saving a checkpoint, when the process that
started it is gone.
"""

import io
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from types import FrameType

from unplateau.errors import InterruptedRunError, UnplateauError

STOPPED = 75
"""Exit code after a stop that was asked for; a checkpoint was saved. Tells the parent apart from a failure."""
PATIENCE = 0.5
"""Seconds between two looks at the parent process."""


@dataclass(frozen=True)
class Job:
    """All that a process must know to train a run, as plain values.

    ``spec``: JSON. ``run``: the run's folder below ``out``. ``command``: the user's, to record. ``path``: where modules
    may lie. ``parent``: process to watch; None: work on alone.
    """

    spec: str
    out: str
    run: str
    device: str = "auto"
    threads: int = 1
    command: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    parent: int | None = None

    def as_json(self) -> str:
        """In one line."""
        return json.dumps(asdict(self))


def main(job: Job | None = None) -> int:
    """Trains the run, by default the one that standard input describes, and returns the exit code."""
    if job is None:
        job = Job(**json.load(sys.stdin))
    if job.parent is not None:
        threading.Thread(target=stop_with, args=(job.parent,), daemon=True).start()
    return work(job)


def work(job: Job) -> int:
    """The same without looking at a parent."""
    sys.argv = [*job.command] or sys.argv
    sys.path += [place for place in job.path if place not in sys.path]
    said = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(said)
    logging.getLogger("unplateau.config").setLevel(logging.ERROR)  # the parent has said what the spec imports
    try:
        import torch  # noqa: PLC0415 (a second or more, in which the parent is already being watched)

        from unplateau.train.loop import train  # noqa: PLC0415
        from unplateau.train.spec import spec_of  # noqa: PLC0415

        torch.set_num_threads(job.threads)
        train(spec_of(json.loads(job.spec)), out=job.out, device=job.device, progress=False)
    except UnplateauError as error:
        logging.getLogger(__name__).error("%s", error)
        return STOPPED if isinstance(error, InterruptedRunError) else error.exit_code
    finally:
        logging.getLogger().removeHandler(said)
    return 0


def recorded(job: Job) -> tuple[int, str]:
    """Exit code and words of :func:`work`, for processes that belong to a cluster's own machinery.

    Slurm says by SIGUSR2 that the time is nearly up: the run is saved then, as after SIGTERM. The SIGCONT that comes
    with it means nothing to us, and submitit would warn of it.
    """
    before = {
        name: signal.signal(name, handler)
        for name, handler in ((signal.SIGUSR2, _time_is_up), (signal.SIGCONT, signal.SIG_DFL))
    }
    try:
        with redirect_stderr(io.StringIO()) as said:
            try:
                code = work(job)
            except Exception:
                traceback.print_exc()
                code = 1
        return code, said.getvalue()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _time_is_up(_: int, __: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_with(parent: int) -> None:
    """Asks this process to stop, once, when its parent is no longer the one that started it."""
    while os.getppid() == parent:
        time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
