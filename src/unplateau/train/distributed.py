"""The processes of one run: what the first does for all, what all must agree on, and how they find each other.

The first process alone reads and writes files and looks at the model; the others make the same updates on other rows.
In a process that torchrun has not started everything here does nothing.
"""

import atexit
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from unplateau.errors import LostProcessError, SpecError, UnplateauError, in_words
from unplateau.torchrun import place

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long processes wait for the first, which may look for long. One that has died is noticed at once."""


def is_first() -> bool:
    """Whether this process writes and looks."""
    return place().rank == 0


def own_device(name: str, n_gpus: int) -> str:
    """The device of this process: a GPU of its own where ``name`` is ``auto`` or ``cuda`` and there are several.

    Raises SpecError if there are more processes than GPUs, or one GPU is named for all of them.
    """
    here = place()
    if here.size == 1 or not n_gpus or not name.startswith(("auto", "cuda")):
        return name
    if name not in ("auto", "cuda"):
        raise SpecError(f"device '{name}' is one for {here.size} processes; leave it at auto, or choose cpu")
    if here.local_size > n_gpus:
        raise SpecError(
            f"torchrun has started {here.local_size} processes on a machine with {n_gpus} GPUs; at most "
            f"--nproc-per-node {n_gpus}, or --device cpu"
        )
    return f"cuda:{here.local_rank}"


def backend(device: torch.device) -> str:
    """What carries tensors between processes. Raises SpecError if this PyTorch does not have it."""
    gpu = device.type == "cuda"
    name = "nccl" if gpu else "gloo"
    there = distributed.is_available() and (distributed.is_nccl_available if gpu else distributed.is_gloo_available)()
    if not there:
        raise SpecError(
            f"this PyTorch has no {name}, which several processes on {'GPUs' if gpu else 'CPUs'} need; install one "
            f"that has it, or train in one process, without torchrun"
        )
    return name


@contextmanager
def joined(device: Callable[[], torch.device]) -> Iterator[None]:
    """Inside, this process and the others of its run, if there are any, have found each other.

    They stay together until the process ends; a process group that the caller has made is used as it is. ``device``:
    that of this process, asked for if need be. Raises SpecError where there can be no group, and LostProcessError for
    whatever PyTorch says of a lost connection.
    """
    with lost_processes():
        if place().size > 1:
            _join(device())
        yield


def _join(device: torch.device) -> None:
    if distributed.is_available() and distributed.is_initialized():
        return
    name = backend(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(name, device_id=device if device.type == "cuda" else None)
    atexit.register(distributed.destroy_process_group)


@cache
def _words() -> Any:
    """The group in which processes talk, from CPU to CPU: it waits for nothing that a GPU has still to do."""
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def lead(work: Callable[[], T]) -> T:
    """What ``work`` returns in the first process, in all of them; the others do not do it. Its error is everybody's."""
    if place().size == 1:
        return work()
    told: list[Any] = [None, None]
    try:
        if is_first():
            told[0] = work()
    except BaseException as error:
        told[1] = error if isinstance(error, UnplateauError) else LostProcessError(_told(error))
        distributed.broadcast_object_list(told, src=0, group=_words())
        raise
    distributed.broadcast_object_list(told, src=0, group=_words())
    if told[1] is not None:
        raise told[1]
    value: T = told[0]
    return value


def together(work: Callable[[], object]) -> None:
    """Does ``work`` in all processes; if it fails in one of them, all have that error."""
    if place().size == 1:
        work()
        return
    mine: UnplateauError | None = None
    try:
        work()
    except UnplateauError as error:
        mine = error
    errors: list[UnplateauError | None] = [None] * place().size
    distributed.all_gather_object(errors, mine, group=_words())
    if found := next((error for error in errors if error is not None), None):
        raise found from mine


def agreed(asked: bool) -> bool:
    """Whether it was asked for in any process."""
    if place().size == 1:
        return asked
    answer = torch.tensor(int(asked))
    distributed.all_reduce(answer, distributed.ReduceOp.MAX, group=_words())
    return bool(answer)


def alike(tensors: Mapping[str, Tensor]) -> None:
    """Puts the values of the first process into the tensors of the others."""
    for tensor in tensors.values():
        distributed.broadcast(tensor, src=0, group=_words() if tensor.device.type == "cpu" else None)


@contextmanager
def led(context: AbstractContextManager[object]) -> Iterator[None]:
    """The first process enters ``context`` for all."""
    with ExitStack() as stack:
        lead(lambda: stack.enter_context(context) and None)
        yield


def refuse_uneven(batch_size: int) -> None:
    """Raises SpecError for a batch of which processes would get unequal parts."""
    size = place().size
    if over := batch_size % size:
        fitting = [str(one) for one in (batch_size - over, batch_size - over + size) if one]
        raise SpecError(
            f"train.batch_size {batch_size} is not divisible by the {size} processes that torchrun has started; "
            f"{' or '.join(fitting)} is"
        )


def refuse_recorded(execution: str) -> None:
    """Raises SpecError for recorded steps where processes must talk in the middle of a step."""
    if execution != "eager" and place().size > 1:
        raise SpecError(f"train.execution={execution} is for one process; leave it eager under torchrun")


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turns what PyTorch says of a lost connection into a LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        if place().size == 1 or not _is_of_connection(error):
            raise
        raise LostProcessError(
            f"process {place().rank} of {place().size}: another process of this run has ended or cannot be reached; "
            f"the last checkpoint is kept; the same command resumes the run"
        ) from error


def _is_of_connection(error: RuntimeError) -> bool:
    """Backends raise a class of their own, or name the file of theirs that failed."""
    signs = ("gloo", "nccl", "connection closed", "connection reset")
    return isinstance(error, distributed.DistError) or any(sign in str(error).lower() for sign in signs)


def _told(error: BaseException) -> str:
    return f"the first process of this run has failed ({in_words(error)})"
