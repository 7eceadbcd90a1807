"""Checkpoints: whole or recognised as damaged."""

import json
import logging
from pathlib import Path

import pytest
import torch

from unplateau.errors import CheckpointError
from unplateau.train.checkpoint import Checkpoint, newest_checkpoint, read_checkpoint, save_checkpoint


def save(run: Path, step: int) -> Path:
    tensors = {"a": torch.full((3, 2), float(step)), "b": torch.tensor(step)}
    return save_checkpoint(run, "digest", Checkpoint(tensors, {"step": step, "sums": {"x": 0.1}}))


def test_round_trip(tmp_path: Path) -> None:
    folder = save(tmp_path, 7)
    found = read_checkpoint(folder, "digest")
    assert torch.equal(found.tensors["a"], torch.full((3, 2), 7.0))
    assert found.counters == {"step": 7, "sums": {"x": 0.1}}


def test_last_two_are_kept_and_nothing_temporary(tmp_path: Path) -> None:
    for step in (5, 10, 15, 1000):
        save(tmp_path, step)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000015", "step-00001000"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, "digest") is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "no state", "not json", "foreign", "pickle"])
def test_damaged_checkpoint_is_passed_over_and_said(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    harm(save(tmp_path, 2), damage)
    with caplog.at_level(logging.WARNING, "unplateau"):
        found = newest_checkpoint(tmp_path, "digest")
    assert found is not None
    assert found.counters["step"] == 1
    assert "step-00000002" in caplog.text
    assert "going back to step 1" in caplog.text


def test_nothing_whole_is_an_error(tmp_path: Path) -> None:
    harm(save(tmp_path, 1), "truncate")
    with pytest.raises(CheckpointError, match=r"remove .* to start over"):
        newest_checkpoint(tmp_path, "digest")


def harm(folder: Path, damage: str) -> None:
    tensors, state = folder / "tensors.safetensors", folder / "state.json"
    data = tensors.read_bytes()
    if damage == "truncate":
        tensors.write_bytes(data[:-5])
    elif damage == "flip":
        tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "empty":
        tensors.write_bytes(b"")
    elif damage == "no state":
        state.unlink()
    elif damage == "not json":
        state.write_text("{")
    elif damage == "foreign":
        state.write_text(json.dumps({**json.loads(state.read_text()), "digest": "other"}))
    else:
        torch.save({"a": torch.zeros(1)}, tensors)
