"""The files that describe a run, written before its first step, so that readers need neither the task nor its data."""

import dataclasses
import io
import logging
import math
import os
import platform
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from unplateau import store
from unplateau.config import one_line, sources_of
from unplateau.errors import RunDirectoryError, SpecError
from unplateau.files import open_regular, read_json, write_json, write_whole
from unplateau.layout import TaskShape
from unplateau.records import check_environment, check_spec, check_task
from unplateau.tasks.floors import floors
from unplateau.torchrun import place
from unplateau.train.observers import shown_prompts
from unplateau.train.spec import RunSpec

SHAPE = "shape.json"
"""What a model must know of the task, with which a run's model is built again."""
CODE = "code.json"
"""Source code of kinds of one's own, where a run has some."""
_shape: TypeAdapter[TaskShape] = TypeAdapter(TaskShape)

logger = logging.getLogger(__name__)


def describe_run(path: Path, spec: RunSpec, device: torch.device, *, n_parameters: int, flops: dict[str, int]) -> None:
    """Writes the files; of a run that an earlier process began those that are missing, with a warning."""
    contents: dict[str, Callable[[], Mapping[str, Any] | bytes | None]] = {
        store.PROMPTS: lambda: _prompts(spec),
        store.TASK: lambda: _task_facts(spec, n_parameters, flops),
        SHAPE: lambda: _shape.dump_python(spec.task.shape, mode="json"),
        CODE: lambda: sources_of(spec) or None,
        store.ENV: lambda: _environment(spec, device),
        store.SPEC: lambda: spec.model_dump(mode="json"),  # last: a directory with a spec is complete
    }
    begun = (path / store.SPEC).exists()
    for name, make in contents.items():
        if begun and (path / name).exists():
            continue
        content = make()
        if content is None:
            continue
        if begun:
            logger.warning("%s: was missing and is written again", path / name)
        if isinstance(content, bytes):
            write_whole(path / name, content)
        else:
            write_json(path / name, content)


def check_description(path: Path) -> None:
    """Raises RunDirectoryError for a file that is there and damaged, with the way on; one that is missing is no error.

    Rows and checkpoints are not looked at.
    """
    checks = {
        store.SPEC: lambda file: check_spec(read_json(file), file),
        store.ENV: lambda file: check_environment(read_json(file), file),
        store.TASK: lambda file: check_task(read_json(file), file),
        SHAPE: lambda _: read_shape(path),
        CODE: lambda _: read_code(path),
        store.PROMPTS: _check_prompts,
    }
    for name, check in checks.items():
        with _way_out():
            if os.path.lexists(path / name):
                check(path / name)


@contextmanager
def _way_out() -> Iterator[None]:
    try:
        yield
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{error}; remove this file, and the same command writes it again") from error


def _check_prompts(path: Path) -> None:
    try:
        with open_regular(path) as raw, np.load(raw, allow_pickle=False) as file:
            for name in file.files:
                file[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise RunDirectoryError(f"{path}: is damaged") from error


def read_shape(path: Path) -> TaskShape | None:
    """The shape of the task of this run; None for a run of an earlier version, which did not write it down."""
    if not (path / SHAPE).exists():
        return None
    try:
        return _shape.validate_python(read_json(path / SHAPE))
    except ValidationError as error:
        raise RunDirectoryError(f"{path / SHAPE}: {one_line(error)}") from error


def read_code(path: Path) -> dict[str, str]:
    """The source of kinds of one's own, by address. Raises RunDirectoryError if the file is damaged."""
    code = read_json(path / CODE)
    if not all(isinstance(text, str) for text in code.values()):
        raise RunDirectoryError(f"{path / CODE}: must hold the source of each class as text")
    return code


def refuse_unfit(path: Path, spec: RunSpec) -> None:
    """Raises RunDirectoryError if the directory was made by another spec.

    Raises SpecError for a new run of a task in which the pairs before cannot help: progress would mean nothing.
    """
    if (path / store.SPEC).exists():
        with _way_out():
            written = read_json(path / store.SPEC)
        if written not in [one.model_dump(mode="json") for one in spec.alike()]:
            raise RunDirectoryError(f"{path}: was written by another spec; choose another --out or remove it")
        return
    found = floors(spec.task)
    if math.isclose(found.progress_start, found.progress_end, abs_tol=1e-9):
        raise SpecError(
            "task: the best prediction with the pairs before is no better than without them, so there is no progress "
            "to measure; n_pairs is too small, or nothing is hidden"
        )


def _task_facts(spec: RunSpec, n_parameters: int, flops: dict[str, int]) -> dict[str, Any]:
    """Sizes, floors and the budget of a step, for readers that do not load the task."""
    shape = spec.task.shape
    return {
        "n_pairs": shape.layout.n_pairs,
        "n_labels": shape.n_labels,
        "factor_names": shape.factor_names,
        "factor_sizes": shape.factor_sizes,
        "hidden_factors": [shape.factors[factor].name for factor in shape.asked],
        "hidden_names": () if shape.hides_factors else shape.choices,
        "holds_out_items": spec.task.holds_out_items,
        "floors": dataclasses.asdict(floors(spec.task)),
        "parameters": n_parameters,
        "budget_per_step": {
            "rows": spec.train.batch_size,
            "tokens": spec.train.batch_size * shape.layout.n_positions,
            "flops": flops,
        },
    }


def _environment(spec: RunSpec, device: torch.device) -> dict[str, Any]:
    """Who made this run: identity, versions and machine."""
    run = {
        "recipe": spec.recipe,
        "strategy": spec.strategy.name,
        "seed": spec.seed,
        "digest": spec.digest(),
        "cut": spec.cut,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    return {"run": run, **surroundings(device)}


def surroundings(device: torch.device) -> dict[str, Any]:
    """``versions`` and ``machine``: by what and where something was computed."""
    libraries = ("unplateau", "torch", "numpy", "scipy", "safetensors", "pydantic")
    return {
        "versions": {name: version(name) for name in libraries}
        | {"python": platform.python_version(), "commit": _commit()},
        "machine": {
            "system": platform.platform(),
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": place().size,
            "device": str(device),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
    }


def _prompts(spec: RunSpec) -> bytes | None:
    """``prompts.npz``; None where there is nothing that people can look at."""
    batch = shown_prompts(spec.task)
    shown = spec.task.shown(batch)
    items = {"images": shown.images, "texts": shown.texts}
    arrays: dict[str, Any] = {name: seen for name, seen in items.items() if seen is not None}
    if not arrays:
        return None
    arrays["labels"] = batch.targets.numpy()
    arrays["label_names"] = shown.labels or [str(label) for label in range(spec.task.shape.n_labels)]
    arrays |= {"hidden_factor": batch.hidden_factor.numpy(), "factors": batch.factors.numpy()}
    if shown.rules is not None:
        arrays["rules"] = shown.rules
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _commit() -> str | None:
    """The commit of the source tree, where the package runs from one."""
    here = Path(__file__).resolve()
    if "site-packages" in here.parts:
        return None
    command = ["git", "-C", str(here.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None
