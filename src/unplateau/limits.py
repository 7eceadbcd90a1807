"""What this machine can hold and do: an estimate is compared with it before anything is made.

Estimates are of the least that something takes, so that only what cannot work is refused.
"""

import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from unplateau.errors import SpecError

MOST_HOURS = 10 * 365 * 24.0
"""Of a run or of many, at a rate that only small models reach, recorded on a GPU; what takes longer is refused."""
UPDATES_A_SECOND = 1000.0
RUN_BYTES = 5_000
"""Of a run that waits for its turn, before it is trained."""
PROCESS_BYTES = 150_000_000
"""Of a process that trains, before there is a model in it."""
FLOAT = 4
"""Bytes of a number of a model."""
KEPT_BY_BLOCK = 16
"""Numbers of a Transformer's block, in widths, that its backward pass needs of each position."""
MOST_THREADS = 1024
"""More than that no library of threads survives."""
MOST_INTEGER = 2**63 - 1
_UNLIMITED = 2**60
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int:
    """Bytes that this process can have: the machine's memory and swap, or less where the system sets a limit."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _swap()
    return min(machine, *_set_limits(), _UNLIMITED)


def _swap() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("SwapTotal:"):
                return int(line.split()[1]) * 1024
    return 0


def _set_limits() -> Iterable[int]:
    """Those of the process and of the container around it."""
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(limit)[0]
        yield _UNLIMITED if soft == resource.RLIM_INFINITY else soft
    for path in map(Path, _CGROUPS):
        with suppress(OSError, ValueError):
            yield int(path.read_text(encoding="ascii"))


def refuse_memory(what: str, n_bytes: int, *, there: int | None = None) -> None:
    """Raises SpecError with both numbers if this many bytes are more than ``there`` are: this machine's memory."""
    there = memory() if there is None else there
    if n_bytes > there:
        raise SpecError(
            f"{what}: at least {gigabytes(n_bytes)} of memory would be needed, and this machine has {gigabytes(there)}"
        )


def refuse_hours(what: str, hours: float, rate: str) -> None:
    """Raises SpecError with the estimate if it is more than anybody waits for. ``rate``: what it was reckoned with."""
    if hours > MOST_HOURS:
        raise SpecError(f"{what}: at least {_counted(hours)} hours would be needed, at {rate}")


def refuse_runs(what: str, n_runs: int) -> None:
    """Raises SpecError for more runs than can be listed, or begun in a decade."""
    refuse_memory(what, n_runs * RUN_BYTES)
    refuse_hours(what, n_runs / 3600, "a run a second")


def refuse_none(workers: int, threads: int) -> None:
    """Raises SpecError unless there is one of each."""
    if min(workers, threads) < 1:
        raise SpecError(f"workers and threads must be at least 1 (got {workers} and {threads})")


def refuse_processes(n_runs: int, workers: int, threads: int) -> None:
    """Raises SpecError for more threads or processes at a time than this machine can hold."""
    refuse_threads(threads)
    refuse_runs(f"workers {workers}", workers)
    at_once = min(n_runs, workers)
    refuse_memory(f"workers {workers}: {at_once} processes at a time", at_once * PROCESS_BYTES)


def refuse_threads(threads: int) -> None:
    """Raises SpecError unless PyTorch can start this many."""
    if not 1 <= threads <= MOST_THREADS:
        raise SpecError(
            f"threads: from 1 to {MOST_THREADS} (got {threads}); more than there are cores make nothing faster"
        )


def gigabytes(n_bytes: int) -> str:
    """``12.5 GB`` (powers of ten), however many there are."""
    return f"{_counted(n_bytes / 1e9 if n_bytes < 10**300 else float('inf'))} GB"


def _counted(value: float) -> str:
    """``0.031``, ``12.5``, ``8,000``, ``3.2e+12``."""
    if value >= 1e9:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
