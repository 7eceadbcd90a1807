"""``unplateau doctor``: what this machine offers."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from unplateau.cli.console import size

EXTRAS = {"h5": "h5py", "digits": "sklearn", "energy": "pynvml"}
LOW_ON_DISK = 1e9
"""Bytes; a run writes tens of megabytes at most, a VAE's codes several hundred."""
Finding = tuple[str, str, str]


def doctor() -> None:
    """Shows what this machine offers and what is missing: versions, device, threads, energy counters, cache, disk.

    Lines begin with ok or warn; a warning says what to do about it.
    """
    for verdict, name, fact in findings():
        print(f"{verdict:<4}  {name:<8}  {fact}")


def findings() -> Iterator[Finding]:
    """(ok or warn, what, how it is), one after the other: importing torch takes a second."""
    yield "ok", "python", f"{platform.python_version()} on {platform.platform()}"
    yield from _installed("unplateau", "pydantic", "numpy", "scipy")
    yield from _torch()
    yield _energy()
    yield _cache()
    yield _disk()
    for extra, module in EXTRAS.items():
        found = find_spec(module) is not None
        yield (
            "ok",
            "extra",
            f"{extra}: " + ("installed" if found else f"not installed (pip install 'unplateau[{extra}]')"),
        )


def _installed(*packages: str) -> Iterator[Finding]:
    for package in packages:
        try:
            yield "ok", "package", f"{package} {version(package)}"
        except PackageNotFoundError:
            yield (
                "warn",
                "package",
                f"{package} has no installed version; pip install -e . in the source tree gives it one",
            )


def _torch() -> Iterator[Finding]:
    import torch  # noqa: PLC0415

    yield "ok", "torch", torch.__version__
    yield "ok", "threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores; --threads changes it"
    if torch.cuda.is_available():
        yield "ok", "device", f"cuda ({torch.cuda.get_device_name()})"
    else:
        yield "ok", "device", "cpu (no GPU that PyTorch can use)"


def _energy() -> Finding:
    from unplateau.energy import EnergyMeter  # noqa: PLC0415

    method = EnergyMeter().method
    if method.startswith("estimate"):
        return (
            "warn",
            "energy",
            f"{method}; no counter can be read (RAPL may need read permission), so joules are estimates",
        )
    return "ok", "energy", method


def _cache() -> Finding:
    from unplateau.files import cache_dir  # noqa: PLC0415

    folder = cache_dir()
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    if not os.access(_existing(folder), os.W_OK):
        return "warn", "cache", f"{folder} cannot be written; set UNPLATEAU_CACHE to a folder that can"
    return "ok", "cache", f"{folder}, {size(used)}"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    if free < LOW_ON_DISK:
        return "warn", "disk", f"only {size(free)} free here; runs stop, saved, when it is full"
    return "ok", "disk", f"{size(free)} free here"


def _existing(folder: Path) -> Path:
    """The folder or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
