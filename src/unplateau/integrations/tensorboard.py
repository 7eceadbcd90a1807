"""Rows of a run as TensorBoard scalars: one tag for each number, scores layer by layer, plateaus as text.

What enters: a run, its history, or rows of any ``metrics.jsonl``. What leaves: an event file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from unplateau.errors import MissingExtraError
from unplateau.history import Row
from unplateau.integrations.scalars import plateau_text, rows_of, scalars
from unplateau.plateau import Plateau
from unplateau.store import RunRecord


def write_tensorboard(
    run: RunRecord | Iterable[Row] | str | Path, folder: str | Path, *, plateaus: Sequence[Plateau] | None = None
) -> Path:
    """Writes one event file into ``folder`` and returns the folder.

    ``run``: a run, rows, or the path of a ``metrics.jsonl``. ``plateaus``: to be written as text; None finds those of
    the column ``loss``. A list of scores such as ``weights_score`` becomes ``weights_score/layer_0`` and so on. Raises
    MissingExtraError without tensorboard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("write_tensorboard needs tensorboard: pip install 'unplateau[tensorboard]'") from error
    rows = rows_of(run)
    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            for tag, value in scalars(row).items():
                writer.add_scalar(tag, value, int(row["step"]))
        text = plateau_text(rows, plateaus)
        writer.add_text("plateaus", text, int(rows[-1]["step"]) if rows else 0)
    return Path(folder)
