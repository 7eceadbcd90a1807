"""Many runs: failures stay alone, interruptions lose nothing, the same command again goes on."""

from __future__ import annotations

import json
import signal
from typing import Any

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
    assert "train_loss became nan" in failures[0]
    assert failures[1] == "unplateau: 1 of 2 runs failed"
    done = next(path.parent for path in out.rglob("DONE.json"))
    assert cli.trajectory(done) == cli.trajectory(whole)


def test_runs_end_saved_when_their_parent_is_killed(cli: Any) -> None:
    spec, out = cli.tiny(train__steps=1_000_000, train__checkpoint_every=1_000_000), cli.folder / "runs"
    process = cli.start("sweep", spec)
    cli.until(lambda: cli.n_rows(out) > 0, process)
    process.kill()
    process.communicate()
    run = cli.run_below(out)
    cli.until(lambda: bool(cli.checkpoints(run)) and "interrupted" in cli("ls", "runs").stdout)
    (saved,) = cli.checkpoints(run)
    assert json.loads((saved / "state.json").read_text())["step"] > 0
