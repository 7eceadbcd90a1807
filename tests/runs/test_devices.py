"""One run by two processes that torchrun has started: the numbers of one process, to rounding, whatever happens.

The processes are real and talk by gloo. They are started twice; ``tests/together.py`` is what they do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

import together
import unplateau as up
from together import PLAIN, RUNS, SHARDED, UNFINISHED, sharded, stopping
from unplateau.errors import InterruptedRunError
from unplateau.files import read_rows
from unplateau.store import METRICS
from unplateau.train.observers import Event

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
ROUNDING = {"rel": 1e-4, "abs": 1e-5}


def by_two(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A program in two processes, each with one thread."""
    paths = os.pathsep.join([str(Path(together.__file__).parent), *filter(None, sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [*TORCHRUN, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What unplateau has said on standard error, among what torchrun says."""
    return [line for line in done.stderr.splitlines() if line.startswith("unplateau: ")]


def last_tensors(run: Path) -> dict[str, Tensor]:
    return load_file(max(run.glob("checkpoints/step-*")) / "tensors.safetensors")


def assert_same(one: Path, other: Path) -> None:
    """Losses of all rows, and all tensors of the last checkpoint: weights, heads, what the optimiser remembers."""
    for row, its in zip(read_rows(one / METRICS), read_rows(other / METRICS), strict=True):
        assert row.keys() == its.keys()
        names = [name for name in row if "loss" in name or name in ("step", "rows", "tokens", "train_flops")]
        assert [row[name] for name in names] == pytest.approx([its[name] for name in names], **ROUNDING)
    tensors, others = last_tensors(one), last_tensors(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype
        assert tensor.flatten().tolist() == pytest.approx(others[name].flatten().tolist(), **ROUNDING), name


class Stops:
    """An observer that tells its process to stop."""

    every = 2

    def __call__(self, event: Event) -> dict[str, float]:
        """After two steps."""
        if event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}


def longer(spec: up.RunSpec) -> up.RunSpec:
    return spec.with_settings({"train.steps": 12})


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs by one process."""
    out = tmp_path_factory.mktemp("one")
    for spec in (*RUNS.values(), stopping(), longer(PLAIN)):
        together.trained(spec, out)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two, some of which one process has begun."""
    out = tmp_path_factory.mktemp("two")
    for name in UNFINISHED:
        spec = RUNS[name]
        with pytest.raises(InterruptedRunError, match="stopped after step 2 of 8"):
            up.train(spec, out=out, device="cpu", observers=(*up.default_observers(spec), Stops()))
    done = by_two(together.__file__, str(out))
    assert done.returncode == 0, done.stderr
    assert told(done) == [
        "unplateau: a sweep starts processes of its own, and torchrun has started 2 of it; start it without torchrun "
        "(torchrun is for one run on several devices)"
    ]
    (said,) = done.stdout.splitlines()
    assert said.startswith("finished before: ")
    return out


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(name: str, one: Path, two: Path) -> None:
    assert_same(RUNS[name].directory(one), RUNS[name].directory(two))


@pytest.mark.parametrize("name", SHARDED)
def test_parts_of_a_model_train_as_the_whole(name: str, one: Path, two: Path) -> None:
    assert_same(RUNS[name].directory(one), sharded(RUNS[name]).directory(two))


def test_all_stop_where_one_is_told_to_and_resume(one: Path, two: Path) -> None:
    for spec in (stopping(), sharded(stopping())):
        assert_same(stopping().directory(one), spec.directory(two))


def test_a_run_is_made_longer(one: Path, two: Path) -> None:
    assert_same(longer(PLAIN).directory(one), longer(PLAIN).directory(two))


def test_where_a_process_is_killed_the_other_says_so_and_one_can_go_on(tmp_path: Path) -> None:
    spec = stopping(signal.SIGKILL)
    (tmp_path / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")))
    out = tmp_path / "runs"
    done = by_two("-m", "unplateau", "train", str(tmp_path / "spec.json"), "--out", str(out), "--device", "cpu")
    assert done.returncode == 1
    assert [line for line in told(done) if "importing together" not in line] == [
        "unplateau: process 0 of 2: another process of this run has ended or cannot be reached; the last checkpoint is "
        "kept; the same command resumes the run"
    ]
    assert done.stdout == ""
    run = spec.directory(out)
    assert [path.name for path in run.glob("checkpoints/*")] == ["step-00000004"]
    together.trained(spec, out)
    assert_same(together.trained(spec, tmp_path / "whole").path, run)
