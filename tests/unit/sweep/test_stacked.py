"""Runs trained together leave the directories they leave alone, and go on alone; what befalls one spares others."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import unplateau as up
from tiny_run import TINY
from unplateau import store
from unplateau.errors import InterruptedRunError, SpecError
from unplateau.store import RunRecord
from unplateau.strategies.base import Host, LossTerm, Read, View
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.stacked import train_many

FEW = TINY.with_settings({"train.steps": 10, "train.probe_every": 0, "train.checkpoint_every": 4})
SPECS = [FEW, FEW.with_seed(1), FEW.with_strategy("unplateau"), FEW.with_settings({"train.steps": 8, "train.lr": 1e-4})]


class Trouble(LossTerm):
    """Does nothing, until it does something."""

    reads: ClassVar[tuple[Read, ...]] = ("items",)

    weight: float = 1.0
    at: int = 3
    what: str = "memory"

    def build_head(self, host: Host) -> nn.Module:
        del host
        return nn.Identity()

    def value(self, view: View) -> Tensor:
        if view.step == self.at:
            if self.what == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has none")
            if self.what == "divergence":
                return view.items(1).states.sum() * math.nan
            os.kill(os.getpid(), signal.SIGTERM)
        return torch.zeros(())


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / store.METRICS).read_text().splitlines()]


def alone(spec: up.RunSpec, out: Path) -> Path:
    """The directory of the same run trained by itself; one that stops is gone on with."""
    with suppress(InterruptedRunError):
        return up.train(spec, out=out / "alone", device="cpu").path
    return up.train(spec, out=out / "alone", device="cpu").path


def assert_same_rows(run: RunRecord | RunFailure, other: Path) -> None:
    """All columns, to rounding of float32; scores of probes on few prompts jump."""
    assert isinstance(run, RunRecord)
    mine, its = rows(run.path), rows(other)
    assert [one.keys() for one in mine] == [one.keys() for one in its]
    for one, same in zip(mine, its, strict=True):
        for name in one.keys() & {"step", "rows", "tokens", "train_flops", "loss", "train_loss", "test_loss"}:
            assert one[name] == pytest.approx(same[name], rel=1e-4), name


def test_directories_are_those_of_runs_alone(tmp_path: Path) -> None:
    """A run of another shape goes beside; a finished one is not trained again."""
    done = up.train(FEW.with_seed(9), out=tmp_path, device="cpu")
    before = (done.path / store.COSTS).read_bytes()
    specs = [*SPECS, FEW.with_settings({"model.width": 16}), FEW.with_seed(9)]
    for spec, run in zip(specs, train_many(specs, out=tmp_path, device="cpu"), strict=True):
        by_itself = alone(spec, tmp_path)
        assert_same_rows(run, by_itself)
        assert isinstance(run, RunRecord)
        assert run.done is not None
        assert run.path == spec.directory(tmp_path)
        assert names_below(run.path) == names_below(by_itself)
    assert (done.path / store.COSTS).read_bytes() == before


def names_below(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def test_one_after_the_other_is_bit_for_bit_as_alone(tmp_path: Path) -> None:
    for spec, run in zip(SPECS[:2], train_many(SPECS[:2], out=tmp_path, device="cpu", stacked=False), strict=True):
        assert (run.path / store.METRICS).read_bytes() == (alone(spec, tmp_path) / store.METRICS).read_bytes()


def test_seconds_are_shared_out(tmp_path: Path) -> None:
    """Together the runs book no more than has passed."""
    start = time.perf_counter()
    runs = train_many(SPECS, out=tmp_path, device="cpu", stacked=True)
    passed = time.perf_counter() - start
    booked = [
        run.done["seconds"] + run.done["observer_seconds"] for run in runs if isinstance(run, RunRecord) and run.done
    ]
    assert len(booked) == len(SPECS)
    assert min(booked) > 0
    assert sum(booked) < passed
    for run in runs:
        assert isinstance(run, RunRecord)
        joules = run.done["joules"] if run.done else None
        assert joules is None or joules >= 0


def test_a_stack_that_is_stopped_goes_on_alone_and_together(tmp_path: Path) -> None:
    stops = FEW.with_strategy(up.Strategy(Trouble(what="stop")))
    specs = [*SPECS[:2], stops]
    with pytest.raises(InterruptedRunError, match=r"0 of 4 runs are finished, those begun are saved"):
        train_many([*specs, FEW.with_settings({"model.width": 16})], out=tmp_path, device="cpu", most=3)
    for spec in specs:
        assert max(path.name for path in spec.directory(tmp_path).glob("checkpoints/*")) == "step-00000004"
    first = up.train(specs[0], out=tmp_path, device="cpu")
    for spec, run in zip(specs, train_many(specs, out=tmp_path, device="cpu"), strict=True):
        assert_same_rows(run, alone(spec, tmp_path))
    assert first.done is not None


def test_a_run_alone_goes_on_in_a_stack(tmp_path: Path) -> None:
    """At another step than its neighbours."""
    stops = FEW.with_strategy(up.Strategy(Trouble(what="stop")))
    with pytest.raises(InterruptedRunError):
        up.train(stops, out=tmp_path, device="cpu")
    runs = train_many([SPECS[0], stops], out=tmp_path, device="cpu")
    for spec, run in zip((SPECS[0], stops), runs, strict=True):
        assert_same_rows(run, alone(spec, tmp_path))


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("memory", 1, r"OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has none"),
        ("divergence", 1, r"became NaN or infinite at step 4; the last checkpoint is kept"),
    ],
)
def test_what_befalls_one_run_ends_that_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, code: int, message: str
) -> None:
    hurt = FEW.with_strategy(up.Strategy(Trouble(what=what)))
    specs = [*SPECS[:2], hurt, SPECS[3]]
    runs = train_many(specs, out=tmp_path, device="cpu")
    assert ("runs cannot be computed together" in caplog.text) is (what == "memory")
    for spec, run in zip(specs, runs, strict=True):
        if spec is hurt:
            assert isinstance(run, RunFailure)
            assert (run.path, run.exit_code) == (hurt.directory(tmp_path), code)
            assert message in run.message
        else:
            assert_same_rows(run, alone(spec, tmp_path))


def test_a_directory_that_is_held_costs_no_other(tmp_path: Path) -> None:
    SPECS[1].directory(tmp_path).mkdir(parents=True)
    with store.locked(SPECS[1].directory(tmp_path)):
        first, held = train_many(SPECS[:2], out=tmp_path, device="cpu")
    assert isinstance(first, RunRecord)
    assert isinstance(held, RunFailure)
    assert held.exit_code == 2
    assert "another process is training" in held.message


def test_what_cannot_work_is_refused_before_the_first_run(tmp_path: Path) -> None:
    wrong = FEW.with_strategy(up.Strategy(up.ComponentLoss(layer=9)))
    for specs, message in (([FEW, FEW], "asked for twice"), ([FEW, wrong], "layer")):
        with pytest.raises(SpecError, match=message):
            train_many(specs, out=tmp_path, device="cpu")
    with pytest.raises(SpecError, match="most must be at least 1"):
        train_many([FEW], out=tmp_path, most=0)
    assert not list(tmp_path.iterdir())
    assert train_many([], out=tmp_path) == []


def test_how_far_runs_are_is_told_where_somebody_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_many(SPECS[:2], out=tmp_path, device="cpu", progress=True)
    said = capsys.readouterr().err
    for seed in (0, 1):
        assert f"plain, seed {seed}: step 10/10  progress" in said
