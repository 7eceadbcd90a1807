"""What benchmarks share that train planned runs and keep a row of each: what has one already is not trained again."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from unplateau.store import RunRecord
from unplateau.studies.base import Planned, Row
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.local import run_many


def train_missing(
    planned: Iterable[Planned], rows: Iterable[Row], *, out: Path, workers: int
) -> Iterator[tuple[Planned, RunRecord]]:
    """Trains what has no row. Ends the program at a run that failed: what is finished is found again."""
    done = {row.spec for row in rows}
    missing = [one for one in planned if one.spec.digest() not in done]
    for one, run in zip(missing, run_many([one.spec for one in missing], out=out, workers=workers), strict=True):
        if isinstance(run, RunFailure):
            raise SystemExit(f"{one.setting}, {one.cell}: {run}")
        yield one, run
