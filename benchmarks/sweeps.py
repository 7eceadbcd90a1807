"""What many runs at a time cost, and what becomes of them when processes are killed: ``python benchmarks/sweeps.py``.

Prints one JSON object, which benchmarks/results/sweeps.json keeps. Needs two idle cores and about five minutes;
``--only workers`` or ``--only kills`` for a part.

``workers``: wall-clock seconds of eight equal runs with one and with two local workers, and their ratio (bar: 1.8).
``kills``: a sweep of 40 runs in which 20 processes are killed at random moments, the command itself among them and
then begun again: runs that were lost or begun anew, processes that are left (bars: none), and whether all rows and
weights are those of an undisturbed sweep, bit for bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from unplateau.train.describe import surroundings

TASK = {"kind": "FactorTask", "source": {"kind": "RandomCodes", "sizes": [3, 3], "width": 8, "copies": 4}, "n_pairs": 4}
TRAIN = {"batch_size": 8, "eval_every": 20, "eval_prompts": 8, "probe_every": 80, "probe_prompts": 16}
TRAIN |= {"checkpoint_every": 50, "final_prompts": 16}
SPEC = {"recipe": "tiny", "task": TASK, "model": {"n_layers": 2, "width": 16, "n_heads": 2}, "train": TRAIN}


def started(folder: Path, out: str, *, seeds: int, steps: int, workers: int) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own."""
    (folder / "spec.json").write_text(json.dumps(SPEC))
    command = [sys.executable, "-m", "unplateau", "sweep", "spec.json", "--seeds", str(seeds), "--out", out]
    command += ["--set", f"train.steps={steps}", "--workers", str(workers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def parents() -> dict[int, int]:
    """Of each process that has not ended, its parent (Linux)."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def below(process: int) -> set[int]:
    """The processes that this one has begun, and those that they have."""
    above, found = parents(), {process}
    while more := {one for one, parent in above.items() if parent in found} - found:
        found |= more
    return found - {process}


def runs(folder: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, rows and last weights of each finished run."""
    for done in sorted(folder.rglob("DONE.json")):
        run = done.parent
        weights = max(run.glob("checkpoints/step-*")) / "tensors.safetensors"
        yield run.name, (run / "metrics.jsonl").read_bytes(), weights.read_bytes()


def of_workers(folder: Path, *, steps: int) -> dict[str, Any]:
    """Seconds of eight runs, by number of workers, the start of the program included."""
    seconds = {}
    for workers in (1, 2):
        begun = time.perf_counter()
        if started(folder, f"by-{workers}", seeds=8, steps=steps, workers=workers).wait():
            raise SystemExit("a sweep has failed")
        seconds[workers] = time.perf_counter() - begun
    return {"seconds": seconds, "ratio": seconds[1] / seconds[2]}


def of_kills(folder: Path, *, n_runs: int, n_kills: int, steps: int) -> dict[str, Any]:
    """What is left of a sweep in which processes are killed, and whether it ends as one that nobody disturbed."""
    report = killed_at_random(folder, n_runs=n_runs, n_kills=n_kills, steps=steps)
    started(folder, "undisturbed", seeds=n_runs, steps=steps, workers=2).wait()
    return report | {"same_bit_for_bit": [*runs(folder / "killed")] == [*runs(folder / "undisturbed")]}


def killed_at_random(folder: Path, *, n_runs: int, n_kills: int, steps: int, seed: int = 0) -> dict[str, Any]:
    """Kills runs, the server that they are forked from, and the command, until so many were killed and all is done."""
    choose = random.Random(seed)
    finished: dict[Path, int] = {}  # when each was finished, in nanoseconds
    killed, begun, orphans = {"command": 0, "below": 0}, 0, set[int]()
    sweep = started(folder, "killed", seeds=n_runs, steps=steps, workers=2)
    below_it: set[int] = set()
    while True:
        time.sleep(choose.uniform(0.2, 2.0))
        below_it |= (now := below(sweep.pid))
        for done in (folder / "killed").rglob("DONE.json"):
            finished.setdefault(done, done.stat().st_mtime_ns)
        if sum(killed.values()) < n_kills and sweep.poll() is None and now:
            victim = choose.choice([sweep.pid, *now])
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed["command" if victim == sweep.pid else "below"] += 1
        if sweep.poll() is not None:
            left = sweep.returncode or len(finished) < n_runs
            orphans |= still_there(below_it)
            below_it = set()
            if not left:
                break
            begun += 1
            sweep = started(folder, "killed", seeds=n_runs, steps=steps, workers=2)
    again = [done for done, when in finished.items() if not done.exists() or done.stat().st_mtime_ns != when]
    report: dict[str, Any] = {"runs": n_runs, "finished": len(finished), "killed": killed, "begun_again": begun}
    return report | {"lost_or_repeated": len(again), "orphans": len(orphans)}


def still_there(processes: set[int], patience: float = 30.0) -> set[int]:
    """Those that go on although what they worked for is gone."""
    deadline = time.monotonic() + patience
    while (left := processes & {*parents()}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def main() -> None:
    """Both parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("workers", "kills"))
    parser.add_argument("--steps", type=int, default=600, help="of each run")
    given = parser.parse_args()
    report: dict[str, Any] = surroundings(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        if given.only != "kills":
            report["workers"] = of_workers(Path(name), steps=5 * given.steps)
        if given.only != "workers":
            report["kills"] = of_kills(Path(name), n_runs=40, n_kills=20, steps=given.steps)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
