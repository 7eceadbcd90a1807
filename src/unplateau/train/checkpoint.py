"""Checkpoints that survive a crash at any moment, and are never unpickled.

Each is a folder ``checkpoints/step-00000250`` with ``tensors.safetensors`` and ``state.json``, whole or not there; one
that was damaged later is recognised by its checksum.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from unplateau.config import sources_of
from unplateau.decompose import Trainable
from unplateau.errors import CheckpointError, RunDirectoryError, SpecError, suggest
from unplateau.files import read_json, staged
from unplateau.store import CHECKPOINTS, ENV, SPEC
from unplateau.train.describe import CODE, read_shape
from unplateau.train.spec import RunSpec, spec_of
from unplateau.train.step import build_model

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training needs to go on. ``counters`` is plain JSON data, with ``step`` among it."""

    tensors: Mapping[str, Tensor]
    counters: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with this prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def save_checkpoint(run: Path, digest: str, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint of the run with this spec digest and removes all but the newest two.

    Raises StorageError if the system refuses; the checkpoints before are kept.
    """
    folder = run / CHECKPOINTS / f"step-{checkpoint.counters['step']:08d}"
    data = save_tensors({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    state = {"format": FORMAT, "digest": digest, "sha256": hashlib.sha256(data).hexdigest(), **checkpoint.counters}
    with staged(folder) as made:  # in the place of a damaged one of the same step
        (made / TENSORS).write_bytes(data)
        (made / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
    for old in _folders(run)[2:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def newest_checkpoint(run: Path, digest: str) -> Checkpoint | None:
    """The newest checkpoint of this run that is whole; None if there never was one.

    A damaged or foreign one is reported as a warning and the one before is taken. Raises CheckpointError if there are
    checkpoints and none can be read.
    """
    return next(whole_checkpoints(run, digest), None)


def whole_checkpoints(run: Path, digest: str) -> Iterator[Checkpoint]:
    """The checkpoints of this run that are whole, newest first; see :func:`newest_checkpoint` for the others."""
    problems: list[str] = []
    found = False
    for folder in _folders(run):
        try:
            checkpoint = read_checkpoint(folder, digest)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        while problems:
            logger.warning("%s; going back to step %d", problems.pop(0), checkpoint.counters["step"])
        found = True
        yield checkpoint
    if problems and not found:
        raise CheckpointError(f"{problems[0]}; no older one is whole: remove {run} to start over")


def read_checkpoint(folder: Path, digest: str) -> Checkpoint:
    """One checkpoint. Raises CheckpointError (one line, names the folder) if it is damaged or of another spec."""
    try:
        state = json.loads((folder / STATE).read_bytes())
        data = (folder / TENSORS).read_bytes()
        if state["format"] != FORMAT:
            raise CheckpointError(f"{folder}: has checkpoint format {state['format']}, this version reads {FORMAT}")
        if state["digest"] != digest:
            raise CheckpointError(f"{folder}: belongs to another spec ({state['digest']}, not {digest})")
        if hashlib.sha256(data).hexdigest() != state["sha256"]:
            raise CheckpointError(f"{folder}: checkpoint is damaged (its checksum does not match)")
        tensors = load_tensors(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: checkpoint is damaged ({type(error).__name__}: {error})") from error
    counters = {key: value for key, value in state.items() if key not in ("format", "digest", "sha256")}
    return Checkpoint(tensors, counters)


def _folders(run: Path) -> list[Path]:
    """The finished checkpoints, newest first."""
    return sorted((run / CHECKPOINTS).glob("step-*"), reverse=True)


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[RunSpec, Trainable]:
    """Spec and model of a run directory (its newest whole checkpoint) or of one folder under ``checkpoints``.

    The data of the task need not be there any more. Raises RunDirectoryError if it is neither, CheckpointError if there
    is no checkpoint or none can be read.
    """
    path = Path(path)
    single = (path / STATE).is_file() or path.parent.name == CHECKPOINTS
    run = path.resolve().parent.parent if single else path
    if not (run / SPEC).is_file():
        raise RunDirectoryError(f"{path}: neither a run directory nor one of its checkpoints")
    spec = spec_of(read_json(run / SPEC), where=str(run / SPEC))
    digest = recorded_digest(run, spec)
    checkpoint = read_checkpoint(path, digest) if single else newest_checkpoint(run, digest)
    if checkpoint is None:
        raise CheckpointError(f"{run}: no checkpoint yet; the first one comes at step {spec.train.checkpoint_every}")
    model = build_model(spec, torch.device(device), read_shape(run))
    try:
        model.load_state_dict(checkpoint.under("model/"))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the checkpoint does not fit the model of its spec ({error})") from error
    return spec, model.eval()


def recorded_digest(run: Path, spec: RunSpec) -> str:
    """That under which a run was trained, which is another one where classes of one's own were edited since: told."""
    if not (run / CODE).exists():
        return spec.digest()
    now, then = sources_of(spec), read_json(run / CODE)
    if edited := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
        logger.warning("%s: %s was edited since this run was trained", run, ", ".join(edited))
    return str(read_json(run / ENV)["run"]["digest"])


def take_weights(model: Trainable, donor: Path, modules: Sequence[str]) -> None:
    """Puts the last weights of another run into these modules of a model; an empty name is the whole model.

    Raises SpecError, with a suggestion, for a module that is not there, or has other shapes in the donor.
    """
    weights = load_model(donor)[1].state_dict()
    mine = model.state_dict()
    for name in modules:
        taken = {key: value for key, value in weights.items() if not name or key.startswith(f"{name}.")}
        if not taken:
            names = {key.rsplit(".", n)[0] for key in mine for n in range(1, key.count(".") + 1)}
            raise SpecError(f"grafts: the donor has no module '{name}'{suggest(name, names)}")
        other = [key for key, value in taken.items() if key not in mine or mine[key].shape != value.shape]
        if other:
            raise SpecError(f"grafts: '{other[0]}' of the donor does not fit this model")
        mine |= taken
    model.load_state_dict(mine)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the optimiser's state, as ``<parameter number>/<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"{number}/{name}": value for number, values in state.items() for name, value in values.items()}


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what :func:`optimiser_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
