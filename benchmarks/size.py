"""What reading many runs, and a log of millions of rows, takes: ratios to plain readers of the same files, in one run.

    python benchmarks/size.py [--runs 2000] [--reported 100] [--rows 2000000]

Times are those of the processor, of whole commands with their start; memory is the most that a command held.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from run_directories import MadeRun, make_run

STRATEGIES = ("plain", "warm-up", "mixed", "component-loss")
COPIED = 60
"""Seeds of each strategy with curves of their own; runs beyond are copies under other seeds."""


class Taken(NamedTuple):
    """Processor seconds and megabytes."""

    seconds: float
    megabytes: float


def command(*arguments: object) -> Taken:
    """What one command takes. Raises RuntimeError if it fails."""
    silent = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, silent, 1)]
    argv = [sys.executable, "-m", "unplateau", *map(str, arguments)]
    _, status, used = os.wait4(os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions), 0)
    os.close(silent)
    if status:
        raise RuntimeError(f"{' '.join(argv)}: exit status {status}")
    return Taken(used.ru_utime + used.ru_stime, used.ru_maxrss / (1e3 if sys.platform == "linux" else 1e6))


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def make_runs(folder: Path, count: int) -> None:
    """So many run directories of 200 rows."""
    for number in range(count):
        seed, strategy = divmod(number, len(STRATEGIES))
        falls = None if strategy == 0 else 400 + 10 * (seed % COPIED) + 100 * strategy
        made = MadeRun(STRATEGIES[strategy], seed, falls)
        if seed < COPIED:
            make_run(folder, made)
            continue
        first = next((folder / "demo" / made.strategy).glob(f"seed-{seed % COPIED}-*"))
        copy = shutil.copytree(first, first.with_name(first.name.replace(f"seed-{seed % COPIED}-", f"seed-{seed}-")))
        for name in ("env.json", "spec.json"):
            value = json.loads((copy / name).read_text())
            (value["run"] if name == "env.json" else value)["seed"] = seed
            (copy / name).write_text(json.dumps(value))


def make_log(path: Path, n_rows: int) -> None:
    """A CSV file of four columns, with one plateau; written in parts, as a child's memory counts from its parent's."""
    draw = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("step,loss,accuracy,lr\n")
        for low in range(0, n_rows, 50_000):
            step = np.arange(low + 1, min(low + 50_000, n_rows) + 1)
            done = 1 / (1 + np.exp(-(step - 0.6 * n_rows) / (0.02 * n_rows)))
            noise = draw.standard_normal((2, step.size))
            loss, accuracy = 1.386 - 1.2 * done + 0.05 * noise[0], 0.25 + 0.7 * done + 0.02 * noise[1]
            rows = zip(step.tolist(), loss.tolist(), accuracy.tolist(), strict=True)
            file.writelines(f"{at},{one:.6f},{other:.6f},0.001\n" for at, one, other in rows)


def read_small_files(folder: Path) -> None:
    """One small file of each run."""
    for path in folder.rglob("env.json"):
        json.loads(path.read_text())


def read_cells(path: Path) -> None:
    """All rows of a CSV file, one after the other."""
    with path.open(newline="") as file:
        for _ in csv.reader(file):
            pass


def main() -> None:
    """Prints a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="run directories to list and compare")
    parser.add_argument("--reported", type=int, default=100, help="run directories to report on")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the log")
    given = parser.parse_args()
    start = command("--version")
    print(f"start of the program: {start.seconds:.2f} s, {start.megabytes:.0f} MB\n")
    with TemporaryDirectory() as scratch:
        runs, few, log = Path(scratch) / "runs", Path(scratch) / "few", Path(scratch) / "log.csv"
        make_runs(runs, given.runs)
        make_runs(few, given.reported)
        small = seconds(lambda: read_small_files(runs))
        listed, compared = command("ls", runs), command("compare", runs)
        print(f"ls of {given.runs} runs: {listed.seconds:.1f} s, {listed.seconds / small:.1f} x one small file of each")
        print(f"compare of {given.runs} runs: {compared.seconds:.1f} s, {compared.megabytes:.0f} MB")
        shown = command("report", few, "--out", Path(scratch) / "report.html")
        print(f"report of {given.reported} runs: {shown.seconds:.1f} s, {shown.megabytes:.0f} MB")
        make_log(log, given.rows)
        read, size = seconds(lambda: read_cells(log)), log.stat().st_size / 1e6
        found = command("plateaus", log, "--step", "step", "--value", "loss")
        print(
            f"plateaus of {given.rows} rows: {found.seconds:.1f} s, {found.seconds / read:.1f} x csv.reader; "
            f"{found.megabytes:.0f} MB, {found.megabytes / size:.1f} x the file"
        )


if __name__ == "__main__":
    main()
