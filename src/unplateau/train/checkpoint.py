"""Checkpoints that survive a crash at any moment, and are never unpickled.

Each is a folder ``checkpoints/step-00000250`` with ``tensors.safetensors`` and ``state.json``, whole or not there; one
that was damaged later is recognised by its checksums, by the types and ranges of what it holds, by tensors that do not
fit the model, or by rows that it counts on and that are gone.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from typing_extensions import TypedDict

from unplateau.config import one_line, sources_of
from unplateau.decompose import Trainable
from unplateau.errors import CheckpointError, RunDirectoryError, SpecError, suggest
from unplateau.files import read_json, rows_in, staged
from unplateau.records import Count, Number, check_environment, check_rows
from unplateau.store import CHECKPOINTS, COSTS, ENV, METRICS, SPEC
from unplateau.train.describe import CODE, read_code, read_shape
from unplateau.train.guest import undisturbed
from unplateau.train.spec import RunSpec, spec_of
from unplateau.train.step import build_model
from unplateau.train.updates import Updates

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
NAME = re.compile(r"step-(\d+)")
KEPT = 2
"""Checkpoints of a run that are kept."""

logger = logging.getLogger(__name__)


_STRICTLY = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@with_config(_STRICTLY)
class Spent(TypedDict):
    """What the clock has read."""

    seconds: float
    observer_seconds: float
    joules: Number
    observer_joules: Number
    energy_method: str


@with_config(_STRICTLY)
class Logged(TypedDict):
    """Where the rows end, and what the next one will be made of."""

    sums: dict[str, float]
    metrics_bytes: NotRequired[Count]
    costs_bytes: NotRequired[Count]
    metrics_sha256: NotRequired[str]
    costs_sha256: NotRequired[str]


@with_config(_STRICTLY)
class Counters(Logged):
    """``counters`` of a checkpoint."""

    step: Count
    costs: NotRequired[Spent]
    before_row: NotRequired[Logged]
    row_is_missing: NotRequired[bool]


_counters: TypeAdapter[Counters] = TypeAdapter(Counters)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training needs to go on. ``counters`` is plain JSON data, with ``step`` among it."""

    tensors: Mapping[str, Tensor]
    counters: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with this prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def save_checkpoint(run: Path, digest: str, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint of the run with this spec digest and removes all but the newest two up to its step.

    The rows that it counts on must be on the disk already. Raises StorageError if the system refuses; the checkpoints
    before are kept.
    """
    step = checkpoint.counters["step"]
    folder = run / CHECKPOINTS / f"step-{step:08d}"
    data = save_tensors({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    state = {"format": FORMAT, "digest": digest, "sha256": hashlib.sha256(data).hexdigest(), **checkpoint.counters}
    state |= {"tensors": len(checkpoint.tensors)}
    with staged(folder) as made:  # in the place of a damaged one of the same step
        (made / TENSORS).write_bytes(data)
        (made / STATE).write_text(json.dumps({**state, "checksum": _checksum(state)}, indent=2), encoding="utf-8")
    prune(run, step)
    return folder


def _checksum(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def prune(run: Path, step: int) -> None:
    """Removes all checkpoints but the newest two up to this step, and what killed processes have left of others."""
    for old in [folder for folder in _folders(run) if _step_of(folder) <= step][KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    for left in (run / CHECKPOINTS).glob(".step-*.part"):
        shutil.rmtree(left, ignore_errors=True)


Check = Callable[[Checkpoint], None]
"""Raises CheckpointError, saying in a few words what is wrong, for a checkpoint that cannot be used."""


def newest_checkpoint(run: Path, digest: str, *checks: Check) -> Checkpoint | None:
    """The newest checkpoint of this run that is whole and passes the checks; None if there never was one.

    One that is damaged, foreign or does not fit is reported as a warning and the one before is taken. Raises
    CheckpointError if there are checkpoints and none can be used.
    """
    return next(whole_checkpoints(run, digest, *checks), None)


def whole_checkpoints(run: Path, digest: str, *checks: Check) -> Iterator[Checkpoint]:
    """The checkpoints of this run that can be used, newest first; see :func:`newest_checkpoint` for the others."""
    problems: list[str] = []
    found = False
    for folder in _folders(run):
        try:
            checkpoint = read_checkpoint(folder, digest)
            _checked(checkpoint, folder, checks)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        while problems:
            logger.warning("%s; going back to step %d", problems.pop(0), checkpoint.counters["step"])
        found = True
        yield checkpoint
    if problems and not found:
        raise CheckpointError(f"{problems[0]}; no older one is whole: remove {run} to start over")


def _checked(checkpoint: Checkpoint, folder: Path, checks: Sequence[Check]) -> None:
    named = NAME.fullmatch(folder.name)  # a copy may have any name
    if named and checkpoint.counters["step"] != int(named[1]):
        raise CheckpointError(f"{folder}: checkpoint is damaged (it says step {checkpoint.counters['step']})")
    try:
        for check in checks:
            check(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def read_checkpoint(folder: Path, digest: str) -> Checkpoint:
    """One checkpoint. Raises CheckpointError (one line, names the folder) if it is damaged or of another spec."""
    damaged = f"{folder}: checkpoint is damaged"
    try:
        state = read_json(folder / STATE)
        if not (folder / TENSORS).is_file():
            raise CheckpointError(f"{damaged} (it has no {TENSORS})")
        data = (folder / TENSORS).read_bytes()
        if state["format"] != FORMAT:
            raise CheckpointError(f"{folder}: has checkpoint format {state['format']}, this version reads {FORMAT}")
        if state["digest"] != digest:
            raise CheckpointError(f"{folder}: belongs to another spec ({state['digest']}, not {digest})")
        if hashlib.sha256(data).hexdigest() != state["sha256"]:
            raise CheckpointError(f"{damaged} (its checksum does not match)")
        if "checksum" in state and state.pop("checksum") != _checksum(state):  # earlier versions wrote none
            raise CheckpointError(f"{damaged} (the checksum of {STATE} does not match)")
        tensors = load_tensors(data)
        if state.get("tensors", len(tensors)) != len(tensors):
            raise CheckpointError(f"{damaged} ({len(tensors)} tensors are left of {state['tensors']})")
        counters = {key: value for key, value in state.items() if key not in _OF_THE_FILE}
        _counters.validate_python(counters)
    except ValidationError as error:
        raise CheckpointError(f"{damaged} ({STATE}: {one_line(error)})") from error
    except RunDirectoryError as error:
        raise CheckpointError(f"{damaged} ({str(error).removeprefix(f'{folder}/')})") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{damaged} ({type(error).__name__}: {error})") from error
    return Checkpoint(tensors, counters)


_OF_THE_FILE = ("format", "digest", "sha256", "tensors")


def check_progress(run: Path, steps: int) -> Check:
    """A check that a checkpoint is no further than the run can be, and that the rows which it counts on are there."""

    def check(checkpoint: Checkpoint) -> None:
        counters = checkpoint.counters
        if counters["step"] > steps:
            raise CheckpointError(f"says step {counters['step']} of a run of {steps}")
        if missing := [name for name in ("metrics_bytes", "costs_bytes", "costs") if name not in counters]:
            raise CheckpointError(f"checkpoint is damaged (it has no {missing[0]})")
        sums = counters["sums"]
        if sums and not 1 <= sums.get("steps", 0) <= counters["step"]:
            raise CheckpointError("checkpoint is damaged (its sums are of no step)")
        at = [_steps_of_rows(run / f"{name}.jsonl", counters, name) for name in ("metrics", "costs")]
        if at[0] != at[1]:
            raise CheckpointError(f"the rows of {METRICS} and {COSTS} are not of the same steps")

    return check


def _steps_of_rows(path: Path, counters: Mapping[str, Any], name: str) -> list[int]:
    """Of the rows that were there. Raises CheckpointError if they are not as they were."""
    n_bytes, last = counters[f"{name}_bytes"], counters["step"]
    try:
        content = path.read_bytes()[:n_bytes] if path.is_file() else b""
        rows = rows_in(content, path)
        check_rows(rows, path, steps=last)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read ({error.strerror})") from error
    except RunDirectoryError as error:
        raise CheckpointError(
            f"counts on rows that are damaged ({str(error).removeprefix(f'{path.parent}/')})"
        ) from error
    if len(content) < n_bytes or not content.endswith(b"\n"[: len(content)]):
        raise CheckpointError(f"counts on rows that are missing in {path.name}")
    if counters.get(f"{name}_sha256", found := hashlib.sha256(content).hexdigest()) != found:
        raise CheckpointError(f"counts on rows that were changed in {path.name}")
    return [row["step"] for row in rows]


def check_weights(name: str, wanted: Mapping[str, Tensor]) -> Check:
    """A check that the tensors below ``name`` have the names, shapes and types of these."""

    def check(checkpoint: Checkpoint) -> None:
        found = checkpoint.under(f"{name}/")
        if odd := sorted(found.keys() ^ wanted.keys()):
            what = "lacks" if odd[0] in wanted else "has"
            raise CheckpointError(f"does not fit the model of its spec (it {what} {name}/{odd[0]})")
        for key, tensor in wanted.items():
            _demand_form(f"{name}/{key}", found[key], tuple(tensor.shape), tensor.dtype)

    return check


def check_optimiser(updates: Updates) -> Check:
    """A check that each weight has the whole state of its optimiser, in its shapes and types, or none yet."""

    def check(checkpoint: Checkpoint) -> None:
        found, wanted = checkpoint.under("optimiser/"), updates.blank().tensors()
        begun = {name.partition("/")[0] for name in found}
        for name, tensor in wanted.items():
            owner = name.partition("/")[0]
            if owner.isdecimal() and owner not in begun:
                continue  # it has had no gradient
            if name not in found:
                raise CheckpointError(f"does not fit the optimiser (it lacks {name})")
            _demand_form(f"optimiser/{name}", found[name], tuple(tensor.shape), tensor.dtype)
        if odd := found.keys() - wanted.keys():
            raise CheckpointError(f"does not fit the optimiser (it has {min(odd)})")

    return check


def _demand_form(name: str, tensor: Tensor, shape: tuple[int, ...], kind: torch.dtype) -> None:
    if (tuple(tensor.shape), tensor.dtype) != (shape, kind):
        form = f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "")
        raise CheckpointError(f"does not fit the model of its spec ({name} is {form}, not {shape} {kind})")


def _folders(run: Path) -> list[Path]:
    """The finished checkpoints, newest first."""
    folders = [path for path in (run / CHECKPOINTS).glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(folders, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[RunSpec, Trainable]:
    """Spec and model of a run directory (its newest whole checkpoint) or of one folder under ``checkpoints``.

    The data of the task need not be there any more. Raises RunDirectoryError if it is neither, CheckpointError if there
    is no checkpoint or none can be read.
    """
    path = Path(path)
    single = (path / STATE).is_file() or path.parent.name == CHECKPOINTS
    run = path.resolve().parent.parent if single else path
    if not (run / SPEC).is_file():
        hint = " (`unplateau ls` names the runs in a folder)" if path.is_dir() else ""
        raise RunDirectoryError(f"{path}: neither a run directory nor one of its checkpoints{hint}")
    spec = spec_of(read_json(run / SPEC), where=str(run / SPEC))
    digest = recorded_digest(run, spec)
    with undisturbed():
        model = build_model(spec, torch.device(device), read_shape(run))
        fits = check_weights("model", model.state_dict())
        if single:
            checkpoint: Checkpoint | None = read_checkpoint(path, digest)
            assert checkpoint is not None
            _checked(checkpoint, path.resolve(), (fits,))
        else:
            checkpoint = newest_checkpoint(run, digest, fits)
        if checkpoint is None:
            first = spec.train.checkpoint_every
            raise CheckpointError(f"{run}: no checkpoint yet; the first one comes at step {first}")
        model.load_state_dict(checkpoint.under("model/"))
    return spec, model.eval()


def recorded_digest(run: Path, spec: RunSpec) -> str:
    """That under which a run was trained, which is another one where classes of one's own were edited since: told."""
    if not (run / CODE).exists():
        return spec.digest()
    now, then = sources_of(spec), read_code(run)
    if edited := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
        logger.warning("%s: %s was edited since this run was trained", run, ", ".join(edited))
    check_environment(env := read_json(run / ENV), run / ENV)
    return str(env["run"]["digest"])


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
