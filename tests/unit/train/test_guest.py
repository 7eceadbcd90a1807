"""``train`` as a guest: what the caller has set changes nothing, and is as it was afterwards."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unplateau as up
from small_runs import SPEC, trained, trajectory
from unplateau.errors import UnplateauError
from unplateau.items import base, codes
from unplateau.tasks import factors, floors
from unplateau.train.guest import undisturbed
from unplateau.train.observers import Event

Around = Callable[[], AbstractContextManager[object]]


def settings() -> dict[str, Any]:
    """All that a caller may have set, in a form that can be compared."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else None,
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "threads": torch.get_num_threads(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic(*, warn_only: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


AROUND: dict[str, Around] = {
    "nothing": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device meta": lambda: torch.device("meta"),
    "deterministic": lambda: deterministic(warn_only=False),
    "deterministic, warnings": lambda: deterministic(warn_only=True),
    "own handlers": handlers,
    "anomalies": torch.autograd.detect_anomaly,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("whole")).path


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", AROUND)
def test_what_is_around_changes_nothing_and_stays(name: str, whole: Path, tmp_path: Path) -> None:
    with AROUND[name]():
        before = settings()
        run = trained(tmp_path)
        assert settings() == before
        model = run.model()
        assert settings() == before
    assert trajectory(run.path) == trajectory(whole)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.is_inference() for parameter in model.parameters())


class Vandal:
    """Sets all that can be set, and may end in an error."""

    every = 4

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def __call__(self, event: Event) -> dict[str, Any]:
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        torch.use_deterministic_algorithms(True)
        if self.fails and event.step:
            raise ZeroDivisionError
        return {}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["nothing", "inference_mode", "float64"])
def test_all_is_as_it_was_also_after_an_error(fails: bool, name: str, tmp_path: Path) -> None:
    with AROUND[name]():
        before = settings()
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            up.train(SPEC, out=tmp_path, device="cpu", observers=(*up.default_observers(SPEC), Vandal(fails=fails)))
        assert settings() == before
        with pytest.raises(UnplateauError):
            up.train(SPEC, out=tmp_path, device="cpu", resume=False)
        assert settings() == before


TASKS: list[up.Task] = [
    SPEC.task,
    SPEC.task.fixed(),
    up.Clusters(),
    up.Clusters().fixed(),
    up.LinearRegression(n_pairs=4),
    up.LinearRegression(n_pairs=4).fixed(),
    up.SparseParity(),
    up.AssociativeRecall(),
    up.Mixture(tasks=(SPEC.task.fixed(), SPEC.task), shares=(0.5, 0.5)),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.written_as())
def test_prompts_do_not_depend_on_the_default_dtype(task: up.Task) -> None:
    """Else those that a caller has drawn before would stay in caches, and be trained on."""
    expected = task.sample(5, batch_size=6, seed=11)
    with default_dtype(torch.float64):
        found = task.sample(5, batch_size=6, seed=11)
    for name in ("targets", "factors", "hidden_factor"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.inputs.items, expected.inputs.items)
    assert found.inputs.items.dtype == expected.inputs.items.dtype


def test_what_a_caller_has_drawn_in_other_modes_is_not_trained_on(tmp_path: Path, whole: Path) -> None:
    """Data that are cached are the same whoever asked first: in a process that has drawn none before."""

    def work() -> None:
        for module in list(_caches()):
            module.cache_clear()
        with torch.inference_mode(), default_dtype(torch.float64):
            for task in (SPEC.task, SPEC.task.fixed()):
                task.sample(0, batch_size=3)
            up.floors(SPEC.task)
        assert trajectory(trained(tmp_path).path) == trajectory(whole)

    assert _in_a_fork(work) == 0


def _caches() -> Iterator[Any]:
    for module in (base, codes, factors, floors):
        yield from (one for one in vars(module).values() if hasattr(one, "cache_clear"))


def _in_a_fork(work: Callable[[], object]) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    return child.exitcode


def test_in_threads_two_at_a_time(tmp_path: Path, whole: Path) -> None:
    """Settings of the process are put back when the last has ended, also where the first began under others."""
    found: list[Path] = []
    names = ("a", "b")
    with default_dtype(torch.float64):
        before = settings()
        threads = [threading.Thread(target=lambda n=n: found.append(trained(tmp_path / n).path)) for n in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert settings() == before
    assert [trajectory(run) for run in found] == [trajectory(whole)] * 2


def test_the_last_to_leave_puts_back() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with undisturbed():
            entered.set()
            leave.wait(30)

    with default_dtype(torch.float64):
        thread = threading.Thread(target=stay)
        thread.start()
        entered.wait(30)
        with undisturbed():
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float32, "the other is still inside"
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64


def test_after_a_fork_of_a_process_with_threads(tmp_path: Path, whole: Path) -> None:
    """The threads of PyTorch are not there in a fork, and waiting for them would never end."""
    with undisturbed():
        torch.set_num_threads(2)
        torch.nn.functional.gelu(torch.randn(400, 400))  # begins them

        def work() -> None:
            assert trajectory(trained(tmp_path).path) == trajectory(whole)
            assert torch.get_num_threads() == 2

        assert _in_a_fork(work) == 0


def test_a_fork_while_another_thread_trains(tmp_path: Path, whole: Path) -> None:
    leave = threading.Event()

    def stay() -> None:
        with undisturbed():
            leave.wait(60)

    thread = threading.Thread(target=stay)
    thread.start()
    try:
        time.sleep(0.01)
        assert _in_a_fork(lambda: os._exit(trajectory(trained(tmp_path).path) != trajectory(whole))) == 0
    finally:
        leave.set()
        thread.join()


def test_handlers_that_are_not_of_python_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``getsignal`` says None of them, and what is replaced could not be put back."""
    asked = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else asked(number))
    before = asked(signal.SIGTERM)
    trained(tmp_path)
    assert asked(signal.SIGTERM) is before
