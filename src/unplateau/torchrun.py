"""The processes of one run, as torchrun tells each of them in its environment. Asked before PyTorch is imported."""

import os
from typing import NamedTuple

from unplateau.errors import SpecError

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class Place(NamedTuple):
    """Which of the processes of a run this one is, among all of them and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> Place:
    """Where torchrun has put this process; the only one if something else has started it."""
    told = [os.environ.get(name, "") for name in NUMBERS]
    if all(number.isdecimal() for number in told) and {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return Place(*map(int, told))
    return Place()


def refuse_torchrun(what: str) -> None:
    """Raises SpecError for what has processes of its own, where torchrun has started several of it."""
    if (size := place().size) > 1:
        raise SpecError(
            f"{what} starts processes of its own, and torchrun has started {size} of it; start it without torchrun "
            f"(torchrun is for one run on several devices)"
        )
