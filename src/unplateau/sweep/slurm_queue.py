"""What Slurm says of this user's jobs: ``squeue`` and ``scontrol``, which need no accounting, as ``sacct`` does."""

import re
import subprocess
import time
from contextlib import suppress

ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
"""States that no job leaves (https://slurm.schedmd.com/squeue.html, job state codes)."""
ASK_EVERY = 5.0
"""Seconds between two questions, however many jobs there are."""
PATIENCE = 60.0
"""Seconds to wait for an answer."""
ARRAY = 1000
"""Jobs of an array where Slurm does not say how many it takes: what it takes by default."""


class Queue:
    """The states of all jobs of this user, those that have ended within the last minutes too."""

    def __init__(self) -> None:
        self._states: dict[str, str] | None = None
        self._asked = float("-inf")

    def renew(self) -> None:
        """Asks again next time: there are new jobs."""
        self._asked = float("-inf")

    def has_ended(self, job: str) -> bool:
        """Is it known to have? A job that Slurm does not know has, one of a Slurm that does not answer has not."""
        self._look()
        return self._states is not None and self.state(job) in {"", *ENDED}

    def state(self, job: str) -> str:
        """The last that was heard, such as ``PENDING``; empty for a job that Slurm does not know."""
        return (self._states or {}).get(job, "")

    def _look(self) -> None:
        if time.monotonic() - self._asked > ASK_EVERY:
            told = _told("squeue", "--me", "--states=all", "--array", "--noheader", "--format=%i %T")
            self._states = None if told is None else dict(line.split(maxsplit=1) for line in told.splitlines())
            self._asked = time.monotonic()


def most_in_array() -> int:
    """How many jobs an array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _told("scontrol", "show", "config") or "")
    return int(found[1]) if found else ARRAY


def _told(*command: str) -> str | None:
    """What the command prints; None if it fails, or is not there."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return None
