"""Ctrl-C and SIGTERM as a request to stop after the current step, so that a checkpoint can be saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """True once somebody asked to stop."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def ask(self, *_: int | FrameType | None) -> None:
        """Asks to stop; a second time stops at once."""
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGINT and SIGTERM inside the block (in the main thread; elsewhere signals cannot be caught)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    caught = {number: handler for number, handler in before.items() if handler is not None}  # None: not Python's
    try:
        for number in caught:
            signal.signal(number, request.ask)
        yield request
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
