"""A run that goes on where a shorter one has ended, bit for bit as one that was as long from the start."""

import logging
from collections.abc import Sequence
from pathlib import Path

from unplateau import store
from unplateau.errors import RunDirectoryError, SpecError
from unplateau.files import read_json, write_whole
from unplateau.store import RunRecord
from unplateau.train.begin import begun
from unplateau.train.checkpoint import Checkpoint, check_progress, recorded_digest, save_checkpoint, whole_checkpoints
from unplateau.train.distributed import joined, lead
from unplateau.train.loop import choose_device, train
from unplateau.train.observers import Observer, default_observers
from unplateau.train.spec import RunSpec, spec_of

logger = logging.getLogger(__name__)


def extend(
    run: RunRecord | str | Path,
    steps: int,
    *,
    device: str = "auto",
    observers: Sequence[Observer] | None = None,
    progress: bool | None = None,
) -> RunRecord:
    """Goes on with a run until it has made ``steps`` updates, and returns the longer one.

    That is a run of its own beside the shorter one, which stays: the run of the same spec with other ``train.steps``,
    equal to one trained from the start, row for row and weight for weight. ``observers`` must be those of the shorter
    run. It goes on from the last checkpoint; of a run of an earlier version, perhaps from the one before.

    Raises SpecError if the run is as long already, or where the number of steps decides what was trained (a cosine
    schedule), or where classes of one's own were edited since; RunDirectoryError for a run that was moved; and what
    :func:`~unplateau.train.loop.train` does.
    """
    path = run.path if isinstance(run, RunRecord) else Path(run)
    if not (path / store.SPEC).is_file():
        raise RunDirectoryError(f"{path}: not a run directory (it has no {store.SPEC})")
    spec = spec_of(read_json(path / store.SPEC), where=str(path / store.SPEC))
    longer = spec.with_settings({"train.steps": steps})
    _refuse(path, spec, steps)
    out = path.resolve().parents[2]
    if spec.directory(out) != path.resolve():
        raise RunDirectoryError(f"{path}: was moved or renamed; it belongs at <out>/{spec.directory('')}")
    target = longer.directory(out)
    if not (target / store.DONE).exists():
        longer.check()

    def begin() -> None:
        with begun(target):
            if not (target / store.SPEC).exists():
                looking = default_observers(spec) if observers is None else observers
                _hand_over(path, spec, target, longer.digest(), looking)

    with joined(lambda: choose_device(device)):
        lead(begin)
    return train(longer, out=out, device=device, observers=observers, progress=progress)


def _refuse(path: Path, spec: RunSpec, steps: int) -> None:
    if steps <= spec.train.steps:
        raise SpecError(f"{path}: is {spec.train.steps} steps long already; steps must be more (got {steps})")
    if spec.train.schedule != "constant":
        raise SpecError(
            f"{path}: train.schedule is {spec.train.schedule}, so that a run of {steps} steps has other learning rates "
            f"from the start: train it anew, with train.steps={steps}"
        )
    if recorded_digest(path, spec) != spec.digest():
        raise SpecError(f"{path}: classes of your own were edited since; train anew, with train.steps={steps}")


def _hand_over(path: Path, spec: RunSpec, target: Path, digest: str, observers: Sequence[Observer]) -> None:
    """Puts the newest checkpoint that a longer run has as well into its directory, with the rows up to there."""
    usable = whole_checkpoints(path, spec.digest(), check_progress(path, spec.train.steps))
    every = (_of_longer_run(one, spec, observers) for one in usable)
    checkpoint = next((one for one in every if one is not None), None)
    if checkpoint is None:
        logger.warning("%s: starts anew, since no checkpoint of %s is one of a longer run", target, path)
        return
    logger.warning("%s: goes on from step %d of %s", target, checkpoint.counters["step"], path)
    for name, size in ((store.METRICS, "metrics_bytes"), (store.COSTS, "costs_bytes")):
        write_whole(target / name, (path / name).read_bytes()[: checkpoint.counters[size]])
    save_checkpoint(target, digest, checkpoint)


def _of_longer_run(checkpoint: Checkpoint, spec: RunSpec, observers: Sequence[Observer]) -> Checkpoint | None:
    """As a longer run has it: at its last step a run looks though it may not be time, and that row is taken back.

    None where it cannot be, in a checkpoint of an earlier version.
    """
    last, counters = spec.train.steps, dict(checkpoint.counters)
    before = counters.pop("before_row", None)
    cadences = (spec.train.eval_every, *(one.every for one in observers if one.every))
    if counters["step"] < last or all(last % every == 0 for every in cadences):
        return Checkpoint(checkpoint.tensors, counters)
    return before and Checkpoint(checkpoint.tensors, {**counters, **before, "row_is_missing": True})
