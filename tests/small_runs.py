"""A run of a second, what is told of it, and ways to harm the files that it leaves."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import unplateau as up
from unplateau import store
from unplateau.errors import UnplateauError
from unplateau.store import RunRecord

SPEC = up.RunSpec(
    recipe="small",
    task=up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8, copies=20), n_pairs=4),
    model=up.ModelConfig(n_layers=1, width=8),
    strategy=up.Strategy(up.WarmUp(steps=3), up.Mixed(), up.WeightsLoss()),
    train=up.TrainConfig(
        steps=7,
        batch_size=4,
        eval_every=2,
        eval_prompts=4,
        probe_every=4,
        probe_prompts=16,
        checkpoint_every=3,
        final_prompts=8,
    ),
)
"""Rows at 0, 2, 4, 6 and 7, checkpoints at 3, 6 and 7."""


def trained(out: Path) -> RunRecord:
    return up.train(SPEC, out=out, device="cpu")


def trajectory(run: Path) -> tuple[Any, ...]:
    """All that is a function of the spec: rows, last tensors, the files that describe the run, final figures, names."""
    described = [(run / name).read_bytes() for name in (store.SPEC, store.TASK, "shape.json")]
    done = json.loads((run / store.DONE).read_text())
    figures = {name: value for name, value in done.items() if name.startswith("test_") or name == "step"}
    steps = [json.loads(line)["step"] for line in (run / store.COSTS).read_text().splitlines()]
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
    last = max(run.glob("checkpoints/step-*")) / "tensors.safetensors"
    return (run / store.METRICS).read_bytes(), last.read_bytes(), described, figures, steps, names


def contents(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder, links and what cannot be read by their names."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else "no file"
        for path in folder.rglob("*")
        if path.name != store.LOCK
    }


def copied(run: Path, out: Path, *, unfinished: bool) -> Path:
    """A copy of a run in the folder ``out``; ``unfinished``: as if killed before its last file."""
    copy = SPEC.directory(out)
    shutil.copytree(run, copy)
    if unfinished:
        (copy / store.DONE).unlink()
    return copy


def trained_or_refused(out: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> tuple[bool, str]:
    """Whether it came to the end, and what was said.

    Either it ended as the whole one, or it was refused in one line and nothing was touched: there is no third way.
    """
    run = SPEC.directory(out)
    before = contents(run)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "unplateau"):
        refused = _refusal(out)
    if refused is not None:
        assert "\n" not in refused
        assert contents(run) == before
        return False, refused
    assert trajectory(run) == trajectory(whole)
    assert all("\n" not in record.getMessage() for record in caplog.records)
    return True, "\n".join(record.getMessage() for record in caplog.records)


def _refusal(out: Path) -> str | None:
    try:
        trained(out)
    except UnplateauError as error:
        return str(error)
    return None


def plain_name(path: object) -> str:
    """The name of a file with numbers of steps and processes left out."""
    return re.sub(r"\d+", "N", os.path.basename(os.fsdecode(path) if isinstance(path, bytes) else str(path)))
