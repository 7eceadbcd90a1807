"""One run by two processes that torchrun has started: the numbers of one process, to rounding, whatever happens.

The processes are real and talk by gloo. They are started once; ``tests/together.py`` is what they do.
"""

from __future__ import annotations

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
from together import IN_PARTS, PLAIN, WHOLE, sharded, stopping
from unplateau.errors import InterruptedRunError
from unplateau.files import read_rows
from unplateau.store import METRICS
from unplateau.train.observers import Event

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
ROUNDING = {"rel": 1e-4, "abs": 1e-5}


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
    for spec in (*WHOLE.values(), *IN_PARTS.values(), longer(PLAIN), stopping(), stopping(signal.SIGKILL)):
        together.trained(spec, out)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two, some of which one process has begun."""
    out = tmp_path_factory.mktemp("two")
    for spec in (PLAIN, sharded(IN_PARTS["averaging"])):
        with pytest.raises(InterruptedRunError, match="stopped after step 2 of 8"):
            up.train(spec, out=out, device="cpu", observers=(*up.default_observers(spec), Stops()))
    paths = os.pathsep.join([str(Path(together.__file__).parent), *filter(None, sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [*TORCHRUN, together.__file__, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout == 2 * "ended well\n", done.stderr
    (out / "stderr").write_text(done.stderr)
    return out


@pytest.mark.parametrize("name", WHOLE)
def test_two_processes_train_as_one(name: str, one: Path, two: Path) -> None:
    assert_same(WHOLE[name].directory(one), WHOLE[name].directory(two))


@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_of_a_model_train_as_the_whole(name: str, one: Path, two: Path) -> None:
    assert_same(IN_PARTS[name].directory(one), sharded(IN_PARTS[name]).directory(two))


def test_all_stop_where_one_is_told_to_and_resume(one: Path, two: Path) -> None:
    assert_same(stopping().directory(one), stopping().directory(two))


def test_a_run_is_made_longer(one: Path, two: Path) -> None:
    assert_same(longer(PLAIN).directory(one), longer(PLAIN).directory(two))


def test_where_a_process_is_killed_the_other_says_so_and_one_can_go_on(one: Path, two: Path) -> None:
    told = [line for line in (two / "stderr").read_text().splitlines() if line.startswith("unplateau: ")]
    assert told == [
        "unplateau: process 0 of 2: another process of this run has ended or cannot be reached; the last checkpoint is "
        "kept; the same command resumes the run"
    ]
    killed = stopping(signal.SIGKILL)
    assert [path.name for path in killed.directory(two).glob("checkpoints/*")] == ["step-00000004"]
    together.trained(killed, two)
    assert_same(killed.directory(one), killed.directory(two))
