"""Computing as if the process were our own, and leaving it as it was: its random numbers, modes and settings."""

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

DEVICES = ("cpu", "cuda")
HOME = os.getpid()
"""The process that has imported this. In a fork of it PyTorch's threads are gone, and waiting for them never ends.

A fork of a process in which there were none (see ``unplateau.sweep.server``) puts itself in its place."""

logger = logging.getLogger(__name__)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside: float32, gradients, no autocast, tensors on the CPU unless told otherwise, whatever the caller has set.

    Afterwards, also after an error, all is as before: random states of PyTorch (CPU, and CUDA where it is in use),
    NumPy and Python, default dtype, deterministic algorithms, number of threads. Several threads may be inside at a
    time; what the process has only one of is put back when the last has left.
    """
    with _guests.one_more(), ExitStack() as modes:
        modes.enter_context(torch.inference_mode(mode=False))
        modes.enter_context(torch.enable_grad())
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield


class _Guests:
    """How many are inside, and what puts back the settings of before the first came."""

    def __init__(self) -> None:
        self.process, self.lock, self.number = os.getpid(), threading.Lock(), 0
        self.put_back: Callable[[], None] = lambda: None

    @contextmanager
    def one_more(self) -> Iterator[None]:
        if self.process != os.getpid():  # a fork: those inside, and who held the lock, are not here
            self.__init__()  # type: ignore[misc]
        with self.lock:
            if not self.number:
                self.put_back = _settings()
                torch.set_default_dtype(torch.float32)
                _no_threads_in_a_fork()
            self.number += 1
        try:
            yield
        finally:
            with self.lock:
                self.number -= 1
                if not self.number:
                    self.put_back()


_guests = _Guests()


def _no_threads_in_a_fork() -> None:
    if os.getpid() != HOME and torch.get_num_threads() > 1:
        logger.warning("a forked process has one thread only; start it by spawn to train with more")
        torch.set_num_threads(1)


def _settings() -> Callable[[], None]:
    """A function that sets all as it is now."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    ours = torch.random.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    numpys, pythons = np.random.get_state(), random.getstate()

    def put_back() -> None:
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        torch.random.set_rng_state(ours)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(numpys)
        random.setstate(pythons)

    return put_back
