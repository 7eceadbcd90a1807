"""How worker processes are started: real ones, forked from a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from small_runs import SPEC, trained, trajectory
from unplateau.sweep import launch as module
from unplateau.sweep.launch import local
from unplateau.sweep.worker import STOPPED, Job
from unplateau.train.spec import RunSpec

OWN = """
import os
import resource
import signal

import torch

import unplateau as up


class Task(up.FactorTask):
    # Tells what its process is, and ends as it is asked to.
    end: str = ""

    def sample(self, step, **how):
        if step == 0:
            torch.nn.functional.gelu(torch.randn(400, 400))  # begins threads, where there is more than one
            facts = os.getpid(), os.getppid(), os.getsid(0), torch.get_num_threads(), len(os.listdir("/proc/self/task"))
            print("facts", *facts, os.environ["OMP_NUM_THREADS"], flush=True)
            if self.end == "full disk":
                resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
            elif self.end:
                os.kill(os.getpid(), getattr(signal, self.end))
        return super().sample(step, **how)
"""
LONG = {"train.steps": 1_000_000, "train.checkpoint_every": 1_000_000}


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and /proc, are Linux's")


def job(out: Path, spec: RunSpec = SPEC, *, threads: int = 1) -> Job:
    return Job(spec.model_dump_json(), str(out), str(spec.directory("")), threads=threads)


def facts(said: Path) -> list[int]:
    """Of the process: id, parent, session, PyTorch's threads, threads that there are, and those of the environment."""
    deadline = time.monotonic() + 60
    while "facts" not in (text := said.read_text() if said.exists() else ""):
        assert time.monotonic() < deadline, text
        time.sleep(0.01)
    return [*map(int, next(line for line in text.splitlines() if line.startswith("facts")).split()[1:])]


def gone(process: int) -> bool:
    """Has it ended, within a while?"""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_worker_is_a_process_like_any_other_and_its_death_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_facts.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = import_module("own_facts").Task

    def telling(end: str = "", **settings: int) -> RunSpec:
        return SPEC.model_copy(update={"task": own(end=end, **dict(SPEC.task))}).with_settings(settings)

    with local(tmp_path, threads=2) as launch:
        ends = ["", "full disk", "SIGKILL", "SIGSEGV"]
        files = [tmp_path / f"said-{number}" for number in range(len(ends))]
        runs = [
            launch(job(tmp_path / f"run-{end}", telling(end), threads=2), said)
            for end, said in zip(ends, files, strict=True)
        ]
        assert [run.wait(60) for run in runs] == [0, 1, -signal.SIGKILL, -signal.SIGSEGV]
        assert files[1].read_text().endswith("cannot be written (File too large)\n")
        told = [*map(facts, files)]
        assert len({process for process, *_ in told}) == len(ends)
        (server,) = {parent for _, parent, *_ in told}
        for process, _, session, threads, there, environment in told:
            assert session == process
            assert threads == environment == 2
            assert there >= 3  # the main one, PyTorch's second one, and the one that watches the server

        late = launch(job(tmp_path / "late", telling(**LONG)), tmp_path / "late.said")
        process = facts(tmp_path / "late.said")[0]
        os.kill(server, signal.SIGKILL)
        assert late.wait(60) == STOPPED
        assert gone(process)
        assert "saved; run the same command again to resume" in (tmp_path / "late.said").read_text()

        again = launch(job(tmp_path / "again"), tmp_path / "again.said")
        assert again.wait(60) == 0
    alone = trained(tmp_path / "alone").path
    assert trajectory(SPEC.directory(tmp_path / "again")) == trajectory(alone)


def test_where_forks_are_not_safe_each_begins_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_all_start_methods", lambda: ["spawn", "fork"])
    with local(tmp_path, threads=1) as launch:
        run = launch(job(tmp_path / "run"), tmp_path / "said")
        assert isinstance(run, subprocess.Popen)
        assert run.wait(60) == 0


def test_a_server_that_cannot_begin_says_why_in_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('no torch for you')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with local(tmp_path, threads=1) as launch:
        for name in ("one", "two"):
            run = launch(job(tmp_path / name), tmp_path / f"{name}.said")
            assert run.wait(60) == 1
            assert (tmp_path / f"{name}.said").read_text().splitlines() == ["no torch for you"]


def test_what_is_imported_for_all_asks_no_gpu() -> None:
    """A process that has asked CUDA for its devices cannot be forked any more."""
    asked = [f"torch.cuda.{name} = refuse" for name in ("is_available", "device_count", "_lazy_init", "init")]
    code = "\n".join(["import torch", "def refuse(*_): raise SystemExit('asked')", *asked])
    code += "\nfrom unplateau.sweep.server import preload\npreload()\nassert not torch.cuda.is_initialized()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
