"""``unplateau train``: whatever happens to a run, it can be resumed and ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any


def test_a_run_leaves_what_readers_need(cli: Any, whole: Path) -> None:
    run = cli.run_below(whole)
    names = {path.name for path in run.iterdir()}
    assert {"spec.json", "env.json", "task.json", "metrics.jsonl", "costs.jsonl", "DONE.json"} <= names
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(0, 241, 20))
    assert [path.name for path in cli.checkpoints(run)] == ["step-00000200", "step-00000240"]


def test_done_means_skip(cli: Any, whole: Path) -> None:
    before = cli.run_below(whole).stat().st_mtime_ns, cli.trajectory(whole)
    done = cli("train", "tiny.json", "--out", str(whole))
    assert done.stdout.startswith(f"finished before: {cli.run_below(whole)}: 240 steps")
    assert done.stderr == ""
    assert (cli.run_below(whole).stat().st_mtime_ns, cli.trajectory(whole)) == before


COMPILED = """
import torch._inductor.config
import unplateau as up
from unplateau.errors import SpecError

small = up.recipes.recall().with_settings(
    {"model.n_layers": 1, "model.width": 8, "task.n_pairs": 4, "train.steps": 3, "train.batch_size": 4}
    | {"train.probe_every": 0, "train.eval_prompts": 4, "train.final_prompts": 4}
)
with torch._inductor.config.patch({"cpp.cxx": ("no-compiler",), "force_disable_caches": True}):
    try:
        up.train(small.with_settings({"model.width": 4, "model.n_heads": 1, "train.execution": "compiled"}), out="none")
    except SpecError as error:
        print(error)
eager, compiled = (
    up.train(small.with_settings({"train.execution": execution}), out="runs").model().state_dict()
    for execution in ("eager", "compiled")
)
print(max(float((eager[name] - compiled[name]).abs().max()) for name in eager))
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_a_compiled_run_computes_the_same(cli: Any) -> None:
    """To rounding; where there is nothing to compile with, one line says so."""
    said, apart, graphs = cli.python("-c", COMPILED, cwd=cli.folder).stdout.splitlines()
    assert said.startswith("train.execution=compiled cannot be used here")
    assert "no-compiler" in said
    assert float(apart) < 1e-5
    assert int(graphs) == 1


def test_a_spec_may_be_checked_without_training(cli: Any) -> None:
    assert cli("train", "tiny.json", "--check").stdout.startswith(
        "ok: tiny, plain, seed 0: 240 steps, to be trained in"
    )
    assert "train.lr" in cli.refused("train", "tiny.json", "--check", "--set", "train.lr=-1")
    assert not (cli.folder / "runs").exists()


def test_a_run_is_made_longer_as_it_is(cli: Any, whole: Path) -> None:
    run = str(cli.run_below(whole))
    for other in (("--set", "train.lr=0.5"), ("--seed", "7"), ("--no-resume",), ("--out", "elsewhere")):
        assert "--extend goes on with" in cli.refused("train", run, "--extend", "260", *other)
    assert "--check: not with --extend" in cli.refused("train", run, "--extend", "260", "--check")
    assert len([*whole.rglob("spec.json")]) == 1


def test_a_second_run_can_be_refused(cli: Any, whole: Path) -> None:
    assert "already holds a run" in cli.refused("train", "tiny.json", "--out", str(whole), "--no-resume")


def test_stopped_and_killed_it_ends_the_same(cli: Any, whole: Path) -> None:
    """Ctrl-C, SIGTERM and SIGKILL one after the other, the last at a random moment between two steps or rows."""
    out, moments = cli.folder / "runs", random.Random(0)
    for number, rows in ((signal.SIGINT, 2), (signal.SIGTERM, 4), (signal.SIGKILL, 7)):
        process = cli.start("train", "tiny.json")
        cli.until(lambda rows=rows: cli.n_rows(out) >= rows, process)
        if number == signal.SIGKILL:
            time.sleep(moments.uniform(0, 0.05))
        process.send_signal(number)
        ended = cli.end(process, code=1 if number != signal.SIGKILL else -signal.SIGKILL)
        if number != signal.SIGKILL:
            assert ended.stderr.splitlines()[-1].endswith("saved; run the same command again to resume")
        assert cli.checkpoints(cli.run_below(out))
    assert not (cli.run_below(out) / "DONE.json").exists()
    cli("train", "tiny.json")
    assert cli.trajectory(out) == cli.trajectory(whole)


def test_two_processes_on_one_run_directory(cli: Any) -> None:
    spec, out = cli.tiny("long.json", train__steps=1_000_000), cli.folder / "runs"
    first = cli.start("train", spec)
    cli.until(lambda: cli.n_rows(out) > 0, first)
    assert "another process is training in this run directory" in cli.refused("train", spec)
    assert " running " in cli.anew("ls", "runs").stdout
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    cli.end(first, code=1)


def test_a_diverging_loss_keeps_the_last_checkpoint(cli: Any) -> None:
    ended = cli("train", "tiny.json", "--set", "train.lr=1e30", "--set", "train.checkpoint_every=1", code=1)
    assert "train_loss became NaN or infinite at step 2; the last checkpoint is kept; a lower train.lr" in ended.stderr
    assert [path.name for path in cli.checkpoints(cli.run_below(cli.folder / "runs"))] == ["step-00000001"]


def test_progress_in_a_pipe_is_sparse_and_plain(whole: Path) -> None:
    said = [(whole.parent / name).read_text() for name in ("stdout", "stderr")]
    assert "\x1b" not in "".join(said)
    assert said[0].startswith("done: runs/tiny/plain/seed-0-")
    assert len(said[1].splitlines()) <= 12
    assert said[1].splitlines()[-1].startswith("tiny, plain, seed 0: step 240/240")
