"""One run in a process of its own: ``python -m unplateau.sweep.worker SPEC.json OUT [--device auto] [--threads 1]``.

On failure it leaves one line on standard error. It stops by itself, after saving a checkpoint, when the process that
started it is gone.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from unplateau.errors import InterruptedRunError, UnplateauError

STOPPED = 75
"""Exit code after a stop that was asked for; a checkpoint was saved. Tells the parent apart from a failure."""
PATIENCE = 0.5
"""Seconds between two looks at the parent process."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the run and returns the exit code."""
    parser = argparse.ArgumentParser(prog="unplateau.sweep.worker")
    parser.add_argument("spec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parent", type=int, default=None, help="process to watch; none: work on alone")
    parser.add_argument("--command", type=json.loads, help="the user's command, as a JSON list, to record")
    given = parser.parse_args(argv)
    if given.command:
        sys.argv = given.command
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("unplateau.config").setLevel(logging.ERROR)  # the parent has said what the spec imports
    if given.parent is not None:
        threading.Thread(target=stop_with, args=(given.parent,), daemon=True).start()
    try:
        import torch  # noqa: PLC0415 (a second or more, in which the parent is already being watched)

        from unplateau.train.loop import train  # noqa: PLC0415
        from unplateau.train.spec import read_spec  # noqa: PLC0415

        torch.set_num_threads(given.threads)
        train(read_spec(given.spec), out=given.out, device=given.device)
    except UnplateauError as error:
        logging.getLogger(__name__).error("%s", error)
        return STOPPED if isinstance(error, InterruptedRunError) else error.exit_code
    return 0


def stop_with(parent: int) -> None:
    """Asks this process to stop, once, when its parent is no longer the one that started it."""
    while os.getppid() == parent:
        time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
