"""``unplateau compare``: strategies against a baseline."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import arg

from unplateau.cli.console import print_json
from unplateau.cli.types import PositionalFolder


def compare(
    folder: PositionalFolder, /, *, baseline: str = "plain", json: Annotated[bool, arg(name="json")] = False
) -> None:
    """Compares the strategies among the runs below a folder with a baseline.

    Steps to escape and to completion are medians over seeds; "> N" where runs ended before they got there. Ratios are
    cost of the baseline / cost of the strategy, in steps, training FLOPs, seconds and joules.

    Args:
        folder: a folder of run directories that differ in strategy and seed only
        baseline: name of the strategy that the others are compared with
        json: print JSON instead of tables
    """
    from unplateau.analysis.compare import compare as compare_runs  # noqa: PLC0415

    comparison = compare_runs(folder, baseline)
    if json:
        print_json(comparison.as_dict())
    else:
        print(comparison)
