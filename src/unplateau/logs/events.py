"""TensorBoard's event files, through tensorboard itself."""

from pathlib import Path

from unplateau.errors import DataError, missing_extra
from unplateau.logs.log import Cells, Log


def read_events(path: Path) -> Log:
    """The scalars of an event file, or of all those in a folder. Raises MissingExtraError without tensorboard."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415
        from tensorboard.util import tensor_util  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(f"{path}: an event file, which needs tensorboard to read", "tensorboard") from error
    found = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    try:
        found.Reload()
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an event file ({error})") from error
    rows: list[tuple[float, Cells]] = []
    for tag in found.Tags()["scalars"]:
        rows += [(one.wall_time, {"step": one.step, tag: one.value}) for one in found.Scalars(tag)]
    for tag in found.Tags()["tensors"]:  # what newer writers make of scalars
        for one in found.Tensors(tag):
            value = tensor_util.make_ndarray(one.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                rows.append((one.wall_time, {"step": one.step, tag: float(value.reshape(()))}))
    if not rows:
        raise DataError(f"{path}: an event file without scalars")
    rows.sort(key=lambda row: row[0])
    joined: list[Cells] = []
    for _, cells in rows:  # scalars of one step are written one after the other
        if joined and joined[-1]["step"] == cells["step"] and not set(joined[-1]) & set(cells) - {"step"}:
            joined[-1] |= cells
        else:
            joined.append(cells)
    return Log(str(path), "TensorBoard's event files", list(enumerate(joined, start=1)), place="row")
