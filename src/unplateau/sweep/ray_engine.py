"""Runs as tasks of Ray: on this machine, or on a cluster that shares the file system with it (extra ``ray``).

Ray is imported where it is used, and reports nothing about its use.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unplateau.errors import EngineError, SpecError, missing_extra
from unplateau.sweep.launch import Launch, Watched
from unplateau.sweep.worker import STOPPED, Job, recorded

PATIENCE = 5.0
"""Seconds to wait for a cluster's answer."""


@dataclass(frozen=True)
class RayEngine:
    """``address``: that of a cluster, or ``auto``; None: Ray on this machine, for this call.

    ``gpus`` of a run may be a fraction. ``retries``: how often a run whose process was lost is resumed by itself.
    """

    address: str | None = None
    gpus: float = 0.0
    retries: int = 2

    @contextmanager
    def __call__(self, _: Path, threads: int) -> Iterator[Launch]:
        """See ``unplateau.sweep.launch.Engine``. Raises MissingExtraError, EngineError, SpecError."""
        ray = imported()
        theirs = ray.is_initialized()
        if not theirs:
            self._begin(ray)
        try:
            self._refuse_infeasible(ray.cluster_resources(), threads)
            task = ray.remote(recorded).options(
                num_cpus=threads, num_gpus=self.gpus, max_retries=self.retries, name="unplateau"
            )

            def launch(job: Job, said: Path) -> RayTask:
                return RayTask(ray, task.remote(replace(job, out=str(Path(job.out).resolve()))), said)

            yield launch
        finally:
            if not theirs:
                ray.shutdown()

    def _begin(self, ray: Any) -> None:
        quiet = {"log_to_driver": False, "logging_level": "CRITICAL"}
        if self.address is None:
            ray.init(include_dashboard=False, **quiet)
            return
        refuse_unreachable(self.address)
        try:
            ray.init(address=self.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EngineError(f"--address {self.address}: no Ray cluster can be used there ({reason})") from error

    def _refuse_infeasible(self, there: Mapping[str, float], threads: int) -> None:
        """Raises SpecError for what no machine of the cluster can give: Ray itself would wait for it for ever."""
        for name, wanted, option in (("GPU", self.gpus, "--gpus"), ("CPU", threads, "--threads")):
            have = there.get(name, 0)
            if wanted > have:
                raise SpecError(f"{option} {wanted:g}: more {name}s for a run than Ray has ({have:g})")


def imported() -> Any:
    """The module ``ray``. Raises MissingExtraError without it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # no GPU without --gpus; without a warning
    try:
        import ray  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("--engine ray needs Ray", "ray") from error
    return ray


def refuse_unreachable(address: str) -> None:
    """Raises EngineError, within seconds, if nobody listens at ``[ray://]host:port``. Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        if address not in ("auto", "local"):
            raise SpecError(f"--address '{address}': expected HOST:PORT, ray://HOST:PORT or auto")
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"--address {address}: no Ray cluster can be reached there ({error})") from error


class RayTask(Watched):
    """A run as a task of Ray."""

    def __init__(self, ray: Any, reference: Any, said: Path) -> None:
        self._ray, self._reference, self._said = ray, reference, said
        said.touch()
        self._asked = False
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """See :class:`~unplateau.sweep.launch.Handle`."""
        if self.returncode is None and self._ray.wait([self._reference], timeout=0)[0]:
            self.returncode, words = self._result()
            self._said.write_text(words, encoding="utf-8")
        return self.returncode

    def _result(self) -> tuple[int, str]:
        try:
            code, words = self._ray.get(self._reference)
        except self._ray.exceptions.RayError as error:
            if self._asked:
                return STOPPED, ""
            told = str(error).splitlines() or [type(error).__name__]
            return 1, f"Ray: {told[0]}; run the same command again to resume"
        return code, words

    def terminate(self) -> None:
        """Ray sends SIGINT, after which the run saves."""
        self._cancel(force=False)

    def kill(self) -> None:
        """See :class:`~unplateau.sweep.launch.Handle`."""
        self._cancel(force=True)

    def _cancel(self, *, force: bool) -> None:
        self._asked = True
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.cancel(self._reference, force=force)
