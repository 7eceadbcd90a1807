"""``unplateau report``: one self-contained HTML page about runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from unplateau.cli.types import Folder
from unplateau.errors import SpecError

Folders = Annotated[tuple[Path, ...], Positional, arg(metavar="DIR [DIR ...]")]


def report(
    folders: Folders,
    /,
    *,
    out: Annotated[Path, arg(metavar="FILE")] = Path("report.html"),
    figures: Folder | None = None,
    format_: Annotated[Literal["png", "svg", "pdf"], arg(name="format")] = "png",
    csv: bool = False,
) -> None:
    """Writes a report about the runs below these folders: one HTML file that opens without a network.

    Args:
        folders: run directories, or folders of them, that differ in strategy and seed only
        out: the HTML file to write
        figures: also write each figure into this folder
        format_: file format of these figures
        csv: also write the numbers of each figure as CSV, into the folder of the figures
    """
    from unplateau.report import save_figures, write_report  # noqa: PLC0415 (matplotlib)

    if not folders:
        raise SpecError("report: DIR is missing")
    if csv and figures is None:
        raise SpecError("--csv: it needs --figures FOLDER to say where to")
    print(write_report(list(folders), out))
    if figures is not None:
        for path in save_figures(list(folders), figures, (format_, *(("csv",) if csv else ()))):
            print(path)
