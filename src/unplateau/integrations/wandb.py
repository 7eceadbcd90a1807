"""Rows of a run as a run of Weights & Biases, offline unless asked otherwise.

What enters: a run, its history, or rows of any ``metrics.jsonl``. What leaves: a W&B run; nothing is sent anywhere in
the default mode, and ``wandb sync FOLDER`` uploads it later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from unplateau.errors import MissingExtraError
from unplateau.history import Row
from unplateau.integrations.scalars import plateau_text, rows_of, scalars
from unplateau.plateau import Plateau
from unplateau.store import RunRecord


def write_wandb(
    run: RunRecord | Iterable[Row] | str | Path,
    folder: str | Path,
    *,
    project: str = "unplateau",
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    mode: Literal["offline", "online"] = "offline",
    plateaus: Sequence[Plateau] | None = None,
) -> Path:
    """Writes one W&B run below ``folder`` and returns the run's own folder.

    ``run`` and ``plateaus`` as for :func:`~unplateau.integrations.tensorboard.write_tensorboard`. ``config``: settings
    to show; of a run of our own its spec. Plateaus are in the summary as text. Raises MissingExtraError without wandb.
    """
    try:
        import wandb  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("write_wandb needs wandb: pip install 'unplateau[wandb]'") from error
    rows = rows_of(run)
    settings = dict(run.spec) if config is None and isinstance(run, RunRecord) else dict(config or {})
    Path(folder).mkdir(parents=True, exist_ok=True)
    writer = wandb.init(project=project, name=name, config=settings, mode=mode, dir=str(folder), reinit="create_new")
    for row in rows:
        writer.log(scalars(row), step=int(row["step"]))
    writer.summary["plateaus"] = plateau_text(rows, plateaus)
    path = Path(writer.dir).parent
    writer.finish()
    return path
