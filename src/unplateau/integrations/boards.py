"""Rows of a log as named numbers, for programs that draw one curve for each name: TensorBoard and W&B."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from unplateau.errors import DataError, missing_extra
from unplateau.files import read_rows
from unplateau.history import History, Row
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.store import RunRecord, load_run

Log = RunRecord | Iterable[Row] | str | Path


def rows_of(run: Log) -> History:
    """The rows of a run or its directory, of a file, or those given. Raises DataError for a file that is not there."""
    if isinstance(run, RunRecord):
        return run.history
    if isinstance(run, (str, Path)) and Path(run).is_dir():
        return load_run(run).history
    if isinstance(run, (str, Path)):
        if not Path(run).is_file():
            raise DataError(f"{run}: no such file; rows of JSON lines are needed, such as metrics.jsonl")
        return History(read_rows(Path(run)))
    return History(run)


def scalars(row: Row) -> dict[str, float]:
    """All numbers of a row by tag; lists count layers, mappings name factors; text and nulls are left out."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if name != "step":
            _collect(name, value, found)
    return found


def lines_of(plateaus: Sequence[Plateau] | None, rows: History) -> str:
    """One line for each plateau; None: those of the column ``loss``."""
    found = find_plateaus(*rows.curve("loss")) if plateaus is None else plateaus
    return "\n".join(map(str, found)) or "no plateau found"


def _collect(name: str, value: Any, found: dict[str, float]) -> None:
    if isinstance(value, Mapping):
        for key, inside in value.items():
            _collect(f"{name}/{key}", inside, found)
    elif isinstance(value, (list, tuple)):
        if all(isinstance(one, (int, float)) for one in value):  # lists of lists are guesses, not scores
            found.update({f"{name}/layer_{layer}": float(one) for layer, one in enumerate(value)})
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found[name] = float(value)


def write_tensorboard(run: Log, folder: str | Path, *, plateaus: Sequence[Plateau] | None = None) -> Path:
    """Writes one event file into ``folder`` and returns the folder.

    ``run``: a run, its directory, rows, or the path of a ``metrics.jsonl``. ``plateaus``: to be written as text; None
    finds those of the column ``loss``. A list of scores such as ``weights_score`` becomes ``weights_score/layer_0`` and
    so on. Raises MissingExtraError without tensorboard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("write_tensorboard needs tensorboard", "tensorboard") from error
    rows = rows_of(run)
    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            for tag, value in scalars(row).items():
                writer.add_scalar(tag, value, int(row["step"]))
        text = lines_of(plateaus, rows)
        writer.add_text("plateaus", text, int(rows[-1]["step"]) if rows else 0)
    return Path(folder)


def write_wandb(
    run: Log,
    folder: str | Path,
    *,
    project: str = "unplateau",
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    mode: Literal["offline", "online"] = "offline",
    plateaus: Sequence[Plateau] | None = None,
) -> Path:
    """Writes one W&B run below ``folder`` and returns the run's own folder.

    ``run`` and ``plateaus`` as for :func:`~unplateau.integrations.boards.write_tensorboard`. ``config``: settings
    to show; of a run of our own its spec. Plateaus are in the summary as text. W&B's own process may still be writing
    the file when this returns; ``wandb.teardown()`` waits for it, as the end of the program does. Raises
    MissingExtraError without wandb.
    """
    try:
        import wandb  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("write_wandb needs wandb", "wandb") from error
    run = load_run(run) if isinstance(run, (str, Path)) and Path(run).is_dir() else run
    rows = rows_of(run)
    settings = dict(run.spec) if config is None and isinstance(run, RunRecord) else dict(config or {})
    Path(folder).mkdir(parents=True, exist_ok=True)
    writer = wandb.init(project=project, name=name, config=settings, mode=mode, dir=str(folder), reinit="create_new")
    for row in rows:
        writer.log(scalars(row), step=int(row["step"]))
    writer.summary["plateaus"] = lines_of(plateaus, rows)
    path = Path(writer.dir).parent
    writer.finish()
    return path
