"""Whether two checkouts compute the same: the same scenarios with the code of both, compared byte by byte.

    python benchmarks/same.py OLD NEW [--only 'train-*'] [--keep FOLDER] [--workers 2]
    python benchmarks/same.py OLD --save GOLDEN        # keeps what OLD gives ...
    python benchmarks/same.py GOLDEN NEW               # ... to stand in its place later

OLD and NEW are folders with ``src/unplateau``. For a change that is to move code and not results. Each scenario (see
``same_scenarios.py``) runs in a process of its own with one thread; outputs are comparable on one type of machine only.
Runs that OLD has trained are also resumed, shown, probed and reported by NEW. Times, costs, versions and the names of
folders are left out. Exit code 1 if anything differs or fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import same_scenarios
from safetensors import safe_open
from same_scenarios import SCENARIOS, Scenario

PATIENCE = 900
"""Seconds after which a scenario counts as hung."""
SHOWN, MOST = 100, 6
"""Characters of a line that are shown on either side of a difference; files of a scenario that are named."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "MPLBACKEND": "Agg",
    "COLUMNS": "100",
    "NO_COLOR": "1",
}
UNLIKE = {
    "env.json": {"versions", "machine"},
    "DONE.json": {"finished", "seconds", "observer_seconds", "joules", "observer_joules"},
    "state.json": {"costs", "costs_bytes"},
}
"""Keys of JSON files that differ between two runs of the same code."""
NOT_COMPARED = ("costs.jsonl", "shape.json")
"""Files of a run with seconds and joules in them, or that the code before 26 November 2026 did not write."""


@dataclass(frozen=True)
class Side:
    """Where the outputs of a side are, and in ``scratch`` a copy of its code; none if they were saved before."""

    code: bool
    outputs: Path
    scratch: Path

    def run(self, scenario: Scenario, before: Path) -> str:
        """Runs it, where ``before`` holds what OLD gave, and returns what went wrong: nothing if nothing did."""
        folder = self.outputs / scenario.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for needed in scenario.needs:
            shutil.copytree(before / needed / "runs", folder / "runs", dirs_exist_ok=True)
        if scenario.resumes:
            cut_back(folder / "runs")
        command = [sys.executable, same_scenarios.__file__, scenario.name]
        try:
            done = subprocess.run(
                command, cwd=folder, env=self.environment(), capture_output=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return f"has not ended after {PATIENCE} s"
        return done.stderr.decode()[-3000:] if done.returncode else ""

    def environment(self) -> dict[str, str]:
        """What the processes of this side find: a copy of the code, which nobody changes meanwhile, and a cache."""
        own = {"PYTHONPATH": str(self.scratch / "src"), "UNPLATEAU_CACHE": str(self.scratch / "cache")}
        return os.environ | ENVIRONMENT | own


def cut_back(runs: Path) -> None:
    """Makes finished runs look as if they had been stopped after their last checkpoint but one."""
    for done in list(runs.rglob("DONE.json")):
        done.unlink()
        shutil.rmtree(max((done.parent / "checkpoints").glob("step-*")))


def results(folder: Path) -> dict[str, bytes]:
    """Every file below this folder by name, without what differs between two runs of the same code."""
    files = {path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_COMPARED}
    return {str(path.relative_to(folder)): content(path) for path in sorted(files) if not path.name.endswith(".lock")}


def content(path: Path) -> bytes:
    """What is compared of a file: its bytes; of arrays, a line for each."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            return arrays_told({name: file.get_tensor(name) for name in file.keys()}.items())  # noqa: SIM118
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays_told(arrays.items())
    if path.name in UNLIKE:
        value = json.loads(path.read_bytes())
        return json.dumps({key: value[key] for key in value if key not in UNLIKE[path.name]}, indent=2).encode()
    return path.read_bytes()


def arrays_told(arrays: Iterable[tuple[str, np.ndarray]]) -> bytes:
    """Name, type, shape and digest of each, in order of name."""
    lines = [
        f"{name} {array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        for name, array in sorted(arrays)
    ]
    return "\n".join(lines).encode()


def differences(old: dict[str, bytes], new: dict[str, bytes]) -> list[str]:
    """A text for each file that is not the same; first those that both have, the shortest first: they say most."""
    unequal = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    unequal.sort(key=lambda name: (name not in old or name not in new, len(old.get(name, b""))))
    return [difference(name, old.get(name), new.get(name)) for name in unequal]


def difference(name: str, old: bytes | None, new: bytes | None) -> str:
    """Where the two contents first differ, and what stands there."""
    if old is None or new is None:
        return f"{name}: only {'NEW' if old is None else 'OLD'} has it"
    lines = [[*one.decode(errors="replace").split("\n"), "(end of the file)"] for one in (old, new)]
    number = next(at for at, (one, other) in enumerate(zip(*lines, strict=False)) if one != other)
    one, other = lines[0][number], lines[1][number]
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    around = slice(max(0, at - SHOWN), at + SHOWN)
    return f"{name}, line {number + 1}, character {at + 1}:\n    OLD {one[around]}\n    NEW {other[around]}"


def compared(scenario: Scenario, old: Side, new: Side) -> list[str]:
    """What is not the same in a scenario that both sides have run."""
    expected = results(old.outputs / (scenario.resumes or scenario.name))
    return differences(expected, results(new.outputs / scenario.name))


def run_all(side: Side, old: Side, scenarios: list[Scenario], workers: int) -> int:
    """Runs these with ``side`` and says how each went; returns how many failed or are not as with ``old``."""

    def is_bad(scenario: Scenario) -> bool:
        start = time.monotonic()
        problem = side.run(scenario, old.outputs)
        found = compared(scenario, old, side) if side is not old and not problem else []
        word = "FAILED " if problem else "DIFFERS" if found else "ran    " if side is old else "same   "
        print(f"{word} {scenario.name} ({time.monotonic() - start:.0f} s) {problem}", flush=True)
        for number, text in enumerate(found[:MOST]):
            print(f"    {text if number == 0 else text.splitlines()[0]}", flush=True)
        if len(found) > MOST:
            print(f"    and {len(found) - MOST} more files")
        return bool(problem or found)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(is_bad, scenarios))


def compare(old: Side, new: Side | None, wanted: list[Scenario], workers: int) -> int:
    """Runs both sides and returns the exit code."""
    needed = {name for one in wanted for name in (*one.needs, one.resumes or one.name)}
    if missing := sorted(name for name in needed if not old.code and not (old.outputs / name).is_dir()):
        print(f"{old.outputs}: these were not saved: {', '.join(missing)}")
        return 1
    n_bad = 0
    for first in (True, False) if old.code else ():  # those that need the runs of others come second
        stage = [one for one in SCENARIOS.values() if one.name in needed and first == (not one.needs)]
        n_bad += run_all(old, old, stage, workers)
    if new is not None and not n_bad:
        n_bad = run_all(new, old, wanted, workers)
        print(f"{len(wanted) - n_bad} of {len(wanted)} scenarios are the same")
    return int(n_bad > 0)


def side_of(given: Path, outputs: Path, scratch: Path) -> Side:
    """A checkout, or a folder that outputs were saved in."""
    given = given.resolve()
    is_checkout = (given / "src" / "unplateau").is_dir()
    if is_checkout:
        shutil.copytree(given / "src", scratch / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return Side(is_checkout, outputs if is_checkout else given, scratch)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout, or a folder made by --save")
    parser.add_argument("new", type=Path, nargs="?", help="a checkout; none: only run OLD")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="scenarios, also as patterns")
    parser.add_argument("--keep", type=Path, help="folder in which all outputs are kept")
    parser.add_argument("--save", type=Path, help="folder in which those of OLD are kept, to stand in its place later")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    given = parser.parse_args()
    wanted = [one for one in SCENARIOS.values() if any(fnmatch(one.name, pattern) for pattern in given.only)]
    if not wanted:
        parser.error(f"no such scenario; there are {', '.join(SCENARIOS)}")
    start = time.monotonic()
    with TemporaryDirectory(prefix="same-") as temporary:
        work = (given.keep or Path(temporary)).resolve()
        old = side_of(given.old, (given.save or work / "old").resolve(), Path(temporary) / "old")
        new = given.new and side_of(given.new, work / "new", Path(temporary) / "new")
        if new is not None and not new.code:
            parser.error(f"{given.new}: has no src/unplateau")
        code = compare(old, new, wanted, given.workers)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.monotonic() - start:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time")
    return code


if __name__ == "__main__":
    sys.exit(main())
