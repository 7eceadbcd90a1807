"""Random numbers as a pure function of (seed, stream, step): no hidden state anywhere.

Step 7 can be drawn alone, streams are as good as independent, and resuming is exact. Always on the CPU, so that a
batch does not depend on the device that trains on it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fold(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for this seed, named stream and step."""
    return torch.Generator().manual_seed(fold_seed(seed, stream, step))


def fold_seed(seed: int, stream: str, step: int = 0) -> int:
    """A 63-bit seed for this seed, named stream and step."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def apart(seed: int, stream: str) -> Iterator[None]:
    """Code inside that takes PyTorch's global random numbers (of the CPU) gets those of this seed and stream.

    The caller's own are as before at the end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fold_seed(seed, stream))  # manual_seed() would seed every accelerator
        yield
