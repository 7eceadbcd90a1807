"""Tests keep their caches apart from the user's, and share what takes long to start."""

import logging
import signal
import sys
from collections.abc import Iterator

import pytest

from forked import Forked, Python, new_interpreter


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNPLATEAU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_warnings() -> Iterator[None]:
    """A command that is called in the tests' own process leaves a handler, which would say later lines too."""
    logger = logging.getLogger("unplateau")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Iterator[Python]:
    """Runs programs in processes of their own, which on Linux need not import PyTorch: elsewhere forks are not safe."""
    if sys.platform != "linux":
        yield new_interpreter
        return
    forked = Forked(tmp_path_factory.mktemp("said"))
    yield forked
    forked.close()


def pytest_configure() -> None:
    """Ctrl-C must reach the programs that tests start, also where these run in the background and would ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
