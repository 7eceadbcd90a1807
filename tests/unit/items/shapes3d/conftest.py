"""Every test here reads and writes a cache of its own session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNPLATEAU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
