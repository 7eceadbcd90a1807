"""What this machine can hold: numbers that are told, and a line that is drawn only where nothing can work."""

import resource
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau import limits
from unplateau.errors import SpecError
from unplateau.limits import (
    gigabytes,
    memory,
    refuse_hours,
    refuse_memory,
    refuse_processes,
    refuse_runs,
    refuse_threads,
)


def test_memory_is_that_of_the_machine_or_of_a_limit() -> None:
    whole = memory()
    assert 10**8 < whole < 10**15
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (whole // 2, hard))
        assert memory() == whole // 2
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@given(st.integers(0, 10**4000), st.integers(1, 10**15))
def test_what_fits_is_never_refused_and_what_does_not_always(n_bytes: int, there: int) -> None:
    if n_bytes <= there:
        refuse_memory("it", n_bytes, there=there)
    else:
        with pytest.raises(SpecError, match=r"it: at least .* GB of memory .* has .* GB") as caught:
            refuse_memory("it", n_bytes, there=there)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: refuse_hours("train.steps", 1e9, "a rate"), "1.0e.09 hours .* at a rate"),
        (lambda: refuse_runs("--seeds", 10**9), "5,000 GB"),
        (lambda: refuse_processes(10**6, 10**6, 1), "1000000 processes at a time"),
        (lambda: refuse_processes(2, 10**12, 1), "workers 1000000000000: at least 5,000,000 GB"),
        (lambda: refuse_processes(1, 1, 10**5), "threads: from 1 to 1024"),
        (lambda: refuse_threads(0), "threads"),
    ],
)
def test_refusals_have_the_estimate_in_them(refused: Callable[[], None], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        refused()


def test_many_hours_that_people_do_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory", lambda: 10**10)
    refuse_hours("train.steps", 10_000, "a rate")
    refuse_runs("--seeds", 100_000)
    refuse_processes(2, 10**6, 1)  # no more processes than there are runs


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(0, "0 GB"), (31_000_000, "0.031 GB"), (12.5e9, "12.5 GB"), (8e12, "8,000 GB"), (10**500, "inf GB")],
)
def test_sizes_in_words(n_bytes: int, said: str) -> None:
    assert gigabytes(n_bytes) == said
