"""The engines do the same: real Ray (started once), and real submitit with its executor of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from slurm_cluster import is_installed, slurm
from small_runs import SPEC, trained, trajectory
from unplateau.errors import EngineError, InterruptedRunError, SpecError
from unplateau.store import is_done, newest_row
from unplateau.sweep import slurm_engine, slurm_queue
from unplateau.sweep.detach import hand_in
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.launch import Engine
from unplateau.sweep.local import run_many
from unplateau.sweep.ray_engine import RayEngine, imported
from unplateau.sweep.slurm_engine import SlurmEngine
from unplateau.train.spec import RunSpec

OWN = """
import os
import signal
from pathlib import Path

import unplateau as up


class Task(up.FactorTask):
    # Meets with an accident in the update after step 5, once.
    accident: str = ""
    folder: str = ""

    def sample(self, step, **how):
        mark = Path(self.folder, self.accident)
        if step == 5 and how["batch_size"] <= 4 and self.accident and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), getattr(signal, self.accident))
        return super().sample(step, **how)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Ray that serves all tests of this file."""
    ray = imported()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(params=["ray", "slurm"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "slurm":
        return SlurmEngine(tmp_path, options={"cluster": "local"})
    request.getfixturevalue("cluster")
    return RayEngine(retries=0)


@pytest.fixture
def unlucky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunSpec]:
    """A run that meets with this accident."""
    (tmp_path / "own_accidents.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = import_module("own_accidents").Task

    def made(accident: str) -> RunSpec:
        return SPEC.model_copy(update={"task": own(accident=accident, folder=str(tmp_path), **dict(SPEC.task))})

    return made


def test_each_run_ends_for_itself(engine: Engine, unlucky: Callable[[str], RunSpec], tmp_path: Path) -> None:
    """Of jobs, which take seconds to begin, a time limit alone is tried."""
    alone = trained(tmp_path / "alone").path
    words = {"SIGUSR2": "stopped after step 6 of 7, saved"}
    if isinstance(engine, RayEngine):
        words["SIGKILL"] = "run the same command again"
    specs = [*map(unlucky, words), SPEC]
    *unfortunate, fine = run_many(specs, out=tmp_path, engine=engine)
    assert trajectory(fine.path) == trajectory(alone)
    for one, message in zip(unfortunate, words.values(), strict=True):
        assert isinstance(one, RunFailure)
        assert message in one.message
    again = run_many(specs, out=tmp_path)  # what one engine has begun, another ends
    assert [trajectory(one.path)[0] for one in again] == [trajectory(alone)[0]] * len(specs)


def test_stopped_they_are_saved(engine: Engine, tmp_path: Path) -> None:
    long = SPEC.with_settings({"train.steps": 1_000_000, "train.checkpoint_every": 1_000_000})
    run = long.directory(tmp_path)

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while newest_row(run).get("step", 0) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(InterruptedRunError, match="0 of 1 runs are finished, those begun are saved"):
        run_many([long], out=tmp_path, engine=engine)
    assert len(list(run.glob("checkpoints/step-*"))) == 1


def test_ray_resumes_what_has_lost_its_process(cluster: str, unlucky: Callable[[str], RunSpec], tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone").path
    (run,) = run_many([unlucky("SIGKILL")], out=tmp_path, engine=RayEngine(retries=1))
    assert trajectory(run.path)[0] == trajectory(alone)[0]


def test_ray_gives_no_more_than_it_has(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--gpus 0\.5: more GPUs for a run than Ray has"):
        run_many([SPEC], out=tmp_path, engine=RayEngine(gpus=0.5))
    with pytest.raises(SpecError, match="--threads 3: more CPUs"):
        run_many([SPEC], out=tmp_path, engine=RayEngine(), threads=3)


def test_a_cluster_by_its_address(cluster: str, cli: Any, whole: Any) -> None:
    cli("sweep", "tiny.json", "--engine", "ray", "--address", cluster)
    assert cli.trajectory(cli.folder / "runs") == cli.trajectory(whole)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its processes running
def test_handed_in_they_go_on_alone(tmp_path: Path) -> None:
    specs = [SPEC, SPEC.with_seed(1)]
    engine = SlurmEngine(tmp_path, options={"cluster": "local"})
    trained(tmp_path)
    assert len(hand_in(specs, tmp_path, engine, workers=2, threads=1, device="cpu")) == 1
    deadline = time.monotonic() + 60
    while not is_done(specs[1].directory(tmp_path), SPEC.train.steps):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert hand_in(specs, tmp_path, engine, workers=2, threads=1, device="cpu") == []


@pytest.fixture
def real_slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm of this machine; on a developer's without it there is nothing to test."""
    if not (is_installed() or os.environ.get("CI")):
        pytest.skip("Slurm (slurmctld, slurmd, slurm-client) is not installed")
    monkeypatch.setattr(slurm_queue, "ASK_EVERY", 0.5)
    monkeypatch.setattr(slurm_engine, "LATENCY", 1.0)
    with slurm(tmp_path_factory.mktemp("slurm")):
        yield


def test_on_slurm_no_run_has_two_jobs(real_slurm: None, tmp_path: Path) -> None:
    """Handed in twice, then swept while the first jobs go on; of three runs the last is in an array of its own."""
    specs = [SPEC.with_seed(seed) for seed in range(3)]
    engine = SlurmEngine(tmp_path)
    assert hand_in(specs, tmp_path, engine, workers=2, threads=1, device="cpu") == ["1_0", "1_1", "2"]
    assert hand_in(specs, tmp_path, engine, workers=2, threads=1, device="cpu") == []

    def cancel(_: object) -> None:
        subprocess.run(["scancel", "2"], check=False)

    first, second, cancelled = run_many(specs, out=tmp_path, engine=engine, workers=3, ended=cancel)
    assert trajectory(first.path)[0] == trajectory(trained(tmp_path / "alone").path)[0]
    assert second.path == specs[1].directory(tmp_path)
    assert isinstance(cancelled, RunFailure)
    assert cancelled.message.startswith("job 2: CANCELLED, without a result (its log: ")
    assert len(hand_in(specs, tmp_path, engine, workers=2, threads=1, device="cpu")) == 1


def test_on_slurm_they_are_saved_when_stopped(real_slurm: None, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"the job was refused \(sbatch: error: invalid partition specified: none\)"):
        run_many([SPEC], out=tmp_path, engine=SlurmEngine(tmp_path, options={"slurm_partition": "none"}))
    test_stopped_they_are_saved(SlurmEngine(tmp_path), tmp_path)
    assert "R" not in subprocess.check_output(["squeue", "--noheader", "--format=%t"], text=True)
