"""Which device a process gets and what is refused; what processes do together is in tests/runs/test_devices.py."""

import pytest
import torch
from torch import distributed

from unplateau.errors import SpecError
from unplateau.torchrun import NUMBERS
from unplateau.train.distributed import (
    agreed,
    backend,
    joined,
    lead,
    lost_processes,
    own_device,
    refuse_uneven,
    together,
)


@pytest.fixture
def _last_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of four processes on two machines."""
    for name, value in zip(NUMBERS, "3412", strict=True):
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")


def test_alone_everything_is_done_here_and_nothing_is_asked() -> None:
    assert lead(lambda: "done") == "done"
    done: list[int] = []
    together(lambda: done.append(1))
    assert done == [1]
    assert (agreed(True), agreed(False)) == (True, False)
    with joined(lambda: pytest.fail("the device was asked for")):
        assert not distributed.is_initialized()
    assert own_device("cuda:7", 1) == "cuda:7"
    refuse_uneven(7)


@pytest.mark.usefixtures("_last_of_four")
@pytest.mark.parametrize(
    ("name", "n_gpus", "own"),
    [
        ("auto", 2, "cuda:1"),
        ("cuda", 8, "cuda:1"),
        ("auto", 0, "auto"),
        ("cpu", 2, "cpu"),
        ("cuda", 0, "cuda"),
        ("gpu", 2, "gpu"),
    ],
)
def test_each_process_has_a_gpu_of_its_own(name: str, n_gpus: int, own: str) -> None:
    assert own_device(name, n_gpus) == own


@pytest.mark.usefixtures("_last_of_four")
@pytest.mark.parametrize(
    ("name", "n_gpus", "message"),
    [
        ("auto", 1, "2 processes on a machine with 1 GPUs; at most --nproc-per-node 1, or --device cpu"),
        ("cuda:0", 2, "device 'cuda:0' is one for 4 processes"),
    ],
)
def test_processes_without_a_gpu_of_their_own_are_refused(name: str, n_gpus: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        own_device(name, n_gpus)


@pytest.mark.usefixtures("_last_of_four")
@pytest.mark.parametrize(("size", "better"), [(7, "4 or 8"), (2, "4"), (65, "64 or 68")])
def test_a_batch_of_which_processes_would_get_unequal_parts_is_refused(size: int, better: str) -> None:
    refuse_uneven(8)
    with pytest.raises(SpecError, match=f"batch_size {size} is not divisible by the 4 processes .*; {better} is$"):
        refuse_uneven(size)


@pytest.mark.parametrize(
    ("device", "name", "there"),
    [("cpu", "gloo", distributed.is_gloo_available()), ("cuda", "nccl", distributed.is_nccl_available())],
)
def test_what_carries_tensors_must_be_there(device: str, name: str, there: bool) -> None:
    if there:
        assert backend(torch.device(device)) == name
    else:
        with pytest.raises(SpecError, match=f"this PyTorch has no {name}, which several processes on"):
            backend(torch.device(device))


@pytest.mark.usefixtures("_last_of_four")
def test_only_what_is_said_of_connections_is_a_lost_process() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), lost_processes():
        raise RuntimeError("shapes differ")
