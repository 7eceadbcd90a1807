"""Many runs: failures stay alone, interruptions lose nothing, the same command again goes on."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from sweeps import below, killed_at_random, parents, runs

GRID = ("sweep", "tiny.json", "--axis", "train.lr=1e-3,1e30")
"""One run that can be finished and one that diverges."""


def test_interrupted_it_is_resumed_and_a_failure_stays_alone(cli: Any, whole: Any) -> None:
    out = cli.folder / "runs"
    process = cli.start(*GRID)
    cli.until(lambda: cli.n_rows(out) >= 8, process)
    process.send_signal(signal.SIGINT)
    stopped = cli.end(process, code=1)
    assert stopped.stderr.splitlines()[-1] == (
        "unplateau: runs: stopped; 0 of 2 runs are finished, those begun are saved; "
        "run the same command again to resume"
    )

    ended = cli(*GRID, code=1)
    assert ended.stdout.count(" done ") == 1
    failures = [line for line in ended.stderr.splitlines() if line.startswith("unplateau: ")]
    assert len(failures) == 2
    assert "plain, seed 0 (" in failures[0]
    assert "train_loss became NaN or infinite" in failures[0]
    assert failures[1] == "unplateau: 1 of 2 runs failed"
    assert "all runs: 100 %  1 of 2 done, 1 failed" in ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("plain, lr=0.001: ")]
    assert told == ["plain, lr=0.001: 1 of 1 done, 0 % escaped; median escape > 240, completion > 240; 1 censored"]
    assert "plain, lr=1e+30   0 of 1" in ended.stdout
    planned = cli(*GRID, "--dry-run").stdout.splitlines()
    told = dict(line.split(maxsplit=1) for line in planned[-5:])
    assert told["runs"] == "2: 1 done, 1 begun"
    assert told["time"].endswith(" one after the other")
    assert " kWh (" in told["energy"]
    assert told["known"] == "from 1 finished run"  # the other differs in its learning rate alone
    done = next(path.parent for path in out.rglob("DONE.json"))
    assert cli.trajectory(done) == cli.trajectory(whole)


def test_in_one_process_it_is_the_same_sweep(cli: Any) -> None:
    ended = cli(*GRID, "--engine", "stack", code=1)
    assert ended.stdout.count(" done ") == 1
    failures = [line for line in ended.stderr.splitlines() if line.startswith("unplateau: ")]
    assert "train_loss became NaN or infinite" in failures[0]
    assert failures[1] == "unplateau: 1 of 2 runs failed"
    assert (
        "plain, lr=0.001: 1 of 1 done, 0 % escaped; median escape > 240, completion > 240; 1 censored" in ended.stderr
    )
    assert "plain, lr=1e+30   0 of 1" in ended.stdout
    done = next(path.parent for path in (cli.folder / "runs").rglob("DONE.json"))
    before = (done / "costs.jsonl").stat().st_mtime_ns
    assert cli(*GRID, code=1).stdout.count(" done ") == 1  # another engine has nothing to do but what has failed
    assert (done / "costs.jsonl").stat().st_mtime_ns == before
    for wrong in (("--workers", "0"), ("--threads", "100000")):
        assert wrong[0][2:] in cli.refused(*GRID, "--engine", "stack", *wrong)
    assert "--detach: only with --engine slurm" in cli.refused(*GRID, "--engine", "stack", "--detach")


def test_runs_end_saved_when_their_parent_is_killed(cli: Any) -> None:
    spec, out = cli.tiny(train__steps=1_000_000, train__checkpoint_every=1_000_000), cli.folder / "runs"
    process = cli.start("sweep", spec)
    cli.until(lambda: cli.n_rows(out) > 0, process)
    begun = below(process.pid)
    process.kill()
    process.communicate()
    run = cli.run_below(out)
    cli.until(lambda: bool(cli.checkpoints(run)) and "interrupted" in cli("ls", "runs").stdout)
    (saved,) = cli.checkpoints(run)
    assert json.loads((saved / "state.json").read_text())["step"] > 0
    if sys.platform == "linux":
        assert len(begun) == 2  # the server, and the run that it has forked
        cli.until(lambda: not begun & {*parents()})


@pytest.mark.skipif(sys.platform != "linux", reason="it finds processes in /proc")
def test_killed_at_random_nothing_is_lost_and_nothing_done_twice(tmp_path: Path, whole: Path) -> None:
    """The small brother of ``benchmarks/sweeps.py``."""
    found = killed_at_random(tmp_path, n_runs=2, n_kills=2, steps=240)
    assert sum(found["killed"].values()) == found["finished"] == 2
    assert (found["lost_or_repeated"], found["orphans"]) == (0, 0)
    assert set(runs(whole)) < set(runs(tmp_path))  # that of seed 0
