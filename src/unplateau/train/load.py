"""Reads back what was written down: specs from files, and the model of a run from its newest checkpoint.

What enters: a path. What leaves: a :class:`~unplateau.train.spec.RunSpec`, a task, or a spec and its trained model.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml

from unplateau import store
from unplateau.config import parse
from unplateau.errors import CheckpointError, RunDirectoryError, SpecError
from unplateau.models.transformer import Transformer
from unplateau.tasks.base import Task
from unplateau.train.checkpoint import STATE, Checkpoint, newest_checkpoint, read_checkpoint
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_model

KINDS = (
    "tasks.codes",
    "tasks.digits",
    "tasks.factors",
    "tasks.mixture",
    "tasks.selection",
    "tasks.shapes3d",
    "tasks.text",
    "tasks.words",
    "strategies.curricula",
    "strategies.losses",
)
"""Modules whose classes a spec may name: they are known once they are imported."""


def spec_of(data: object, *, where: str = "") -> RunSpec:
    """Plain data as a spec, whichever of the package's classes it names. Raises SpecError, one line, if it is none."""
    _know_kinds()
    return parse(RunSpec, data, where=where)


def read_spec(path: str | Path) -> RunSpec:
    """The spec in a YAML or JSON file. Raises SpecError, naming the file, if it cannot be read or is no spec."""
    return spec_of(_read(Path(path), f"the keys of a run: {', '.join(RunSpec.model_fields)}"), where=str(path))


def read_task(path: str | Path) -> Task:
    """The task in a YAML or JSON file. Raises SpecError, naming the file, if it cannot be read or is no task."""
    data = _read(Path(path), "the keys of a task, such as kind: FactorTask")
    _know_kinds()
    return parse(Task, data, where=str(path))  # type: ignore[type-abstract]


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[RunSpec, Transformer]:
    """Spec and model of a run directory (its newest whole checkpoint) or of one folder under ``checkpoints``.

    Raises RunDirectoryError if it is neither, CheckpointError if there is no checkpoint or none can be read.
    """
    path = Path(path)
    single = (path / STATE).is_file() or path.parent.name == store.CHECKPOINTS
    run = path.resolve().parent.parent if single else path
    if not (run / store.SPEC).is_file():
        raise RunDirectoryError(f"{path}: neither a run directory nor one of its checkpoints")
    spec = spec_of(store.read_json(run / store.SPEC), where=str(run / store.SPEC))
    checkpoint = read_checkpoint(path, spec.digest()) if single else newest_checkpoint(run, spec.digest())
    if checkpoint is None:
        raise CheckpointError(f"{run}: no checkpoint yet; the first one comes at step {spec.train.checkpoint_every}")
    return spec, _filled(build_model(spec, torch.device(device)), checkpoint, path).eval()


def _filled(model: Transformer, checkpoint: Checkpoint, path: Path) -> Transformer:
    prefix = "model/"
    tensors: dict[str, Any] = {
        name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)
    }
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the checkpoint does not fit the model of its spec ({error})") from error
    return model


def _know_kinds() -> None:
    for module in KINDS:
        import_module(f"unplateau.{module}")


def _read(path: Path, keys: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: not a {_language(path)} file ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise SpecError(f"{path}: must hold {keys}")
    return data


def _language(path: Path) -> str:
    return "JSON" if path.suffix == ".json" else "YAML"
