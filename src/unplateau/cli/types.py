"""Options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

Given = Annotated[str, Positional, arg(metavar="RECIPE|SPEC")]
Settings = Annotated[tuple[str, ...], arg(name="set", metavar="A.B=VALUE"), UseAppendAction]
Folder = Annotated[Path, arg(metavar="DIR")]
PositionalFolder = Annotated[Path, Positional, arg(metavar="DIR")]
