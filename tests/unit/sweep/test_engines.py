"""What engines refuse before anything runs; real runs on them are in tests/runs/test_engines.py."""

from __future__ import annotations

import errno
import fcntl
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from small_runs import SPEC, trained
from unplateau.errors import EngineError, MissingExtraError, SpecError, StorageError
from unplateau.store import is_done
from unplateau.sweep.detach import hand_in
from unplateau.sweep.engines import engine_named
from unplateau.sweep.launch import Engine, Handle, Launch, local
from unplateau.sweep.local import run_many
from unplateau.sweep.ray_engine import RayEngine, refuse_unreachable
from unplateau.sweep.slurm_engine import SlurmEngine
from unplateau.sweep.worker import Job


def begun(engine: Engine, folder: Path) -> None:
    with engine(folder, 1):
        pass


def test_engines_by_name(tmp_path: Path) -> None:
    assert engine_named("local", out=tmp_path) is local
    assert engine_named("stack", out=tmp_path) is None
    options = {"slurm_partition": "gpu"}
    assert engine_named("slurm", out=tmp_path, gpus=2, options=options) == SlurmEngine(tmp_path, 2, options)
    ray = engine_named("ray", out=tmp_path, address="auto", gpus=0.25, options={"retries": 3})
    assert ray == RayEngine("auto", 0.25, 3)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("rya", {}, "did you mean 'ray'"),
        ("local", {"gpus": 1.0}, "--gpus: only with --engine ray or slurm"),
        ("stack", {"gpus": 0.5}, "--gpus: only with --engine ray or slurm"),
        ("local", {"options": {"retries": 1}}, "--option: only with"),
        ("slurm", {"address": "auto"}, "--address: only with --engine ray"),
        ("ray", {"options": {"timeout_min": 1}}, "Ray knows retries alone"),
        ("ray", {"options": {"retries": "many"}}, "Ray knows retries alone"),
        ("ray", {"gpus": -1.0}, "--gpus: at least 0"),
    ],
)
def test_what_an_engine_does_not_know(tmp_path: Path, name: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        engine_named(name, out=tmp_path, **more)


@pytest.mark.parametrize(("module", "extra"), [("ray", "ray"), ("submitit", "slurm")])
def test_an_engine_that_is_not_installed_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'unplateau\[{extra}\]'"):
        begun(engine_named(extra, out=tmp_path), tmp_path)


def test_a_cluster_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        refuse_unreachable(address)
    for same in (address, f"ray://{address}"):
        with pytest.raises(EngineError, match=f"{same}: no Ray cluster can be reached there"):
            refuse_unreachable(same)
    with pytest.raises(SpecError, match="expected HOST:PORT"):
        refuse_unreachable("somewhere")


def test_what_slurm_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match='Could not detect "srun"'):
        begun(SlurmEngine(tmp_path), tmp_path)
    with pytest.raises(SpecError, match="whole GPUs only"):
        begun(SlurmEngine(tmp_path, gpus=0.5), tmp_path)
    with pytest.raises(SpecError, match="'colour'"):
        begun(SlurmEngine(tmp_path, options={"cluster": "local", "colour": 1}), tmp_path)
    with pytest.raises(SpecError, match="--option"):
        begun(SlurmEngine(tmp_path, options={"cluster": "nowhere"}), tmp_path)


def test_what_a_cluster_refuses_waits_for_another_to_end(tmp_path: Path) -> None:
    """It takes one job at a time, says so of every other, and then none at all."""
    going: list[Handle] = []
    refused: list[str] = []

    @contextmanager
    def narrow(folder: Path, threads: int) -> Iterator[Launch]:
        with local(folder, threads) as launch:

            def one(job: Job, said: Path) -> Handle:
                if any(other.poll() is None for other in going) or len(going) == 2:
                    refused.append(job.run)
                    raise EngineError("one job at a time")
                going.append(launch(job, said))
                return going[-1]

            yield one

    specs = [SPEC.with_seed(seed) for seed in range(3)]
    with pytest.raises(EngineError, match="one job at a time"):
        run_many(specs, out=tmp_path, engine=narrow, workers=3)
    assert refused == [str(specs[number].directory("")) for number in (1, 2, 2)]
    assert [is_done(spec.directory(tmp_path), SPEC.train.steps) for spec in specs] == [True, True, False]


def test_jobs_of_this_machine_begin_all_at_once(tmp_path: Path) -> None:
    engine = SlurmEngine(tmp_path, options={"cluster": "local"})
    with pytest.raises(SpecError, match="cluster=local begins all 2 runs at once, --workers are 1"):
        hand_in([SPEC, SPEC.with_seed(1)], tmp_path, engine, workers=1, threads=1, device="cpu")


def test_only_slurm_goes_on_without_us(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--detach: only with --engine slurm"):
        hand_in([SPEC], tmp_path, local, workers=1, threads=1, device="cpu")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says so at the first lock; what is finished needs none."""
    trained(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (run,) = run_many([SPEC], out=tmp_path)
    assert run.path == SPEC.directory(tmp_path)
    with pytest.raises(StorageError, match=r"has no locks \(No locks available\)"):
        run_many([SPEC, SPEC.with_seed(1)], out=tmp_path)
    assert not SPEC.with_seed(1).directory(tmp_path).exists()
