"""All that is to be measured on a GPU, in one go of a few minutes: ``python benchmarks/gpu.py``.

    python benchmarks/gpu.py [--minutes 8] [--json benchmarks/results/gpu.json]
    python benchmarks/gpu.py --device cpu --trial --minutes 1      # does it run at all? small, and slow

``speeds``: the table of benchmarks/speed.py at both sizes, for each way of making a step. ``stack``: seconds of seeds
of the demo that are trained in one stack, and of one of them alone, looks apart (bar: 16 in twice the time).
``same_bits``: whether recorded steps leave the weights of unrecorded ones. ``pair``: the paper's sizes, plain training
and the losses without annotation, in bfloat16, for as many steps as the minutes that are left allow: progress over
training. Each part is written as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from speed import Speed, made, measured

from unplateau.files import write_json
from unplateau.recipes import demo
from unplateau.store import RunRecord
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.stacked import train_many
from unplateau.train.describe import surroundings
from unplateau.train.loop import train

WAYS = {
    "demo": ("float32", "float32,graphed,32"),
    "paper": ("float32", "bfloat16", "bfloat16,graphed,8", "bfloat16,compiled,8"),
}
"""Precision, execution and steps per draw, by size."""
SEEDS, TRIAL_SEEDS = 16, 3
STACK_STEPS, TRIAL_STEPS = 400, 40
STACKED = {"as they are": {}, "graphed": {"train.execution": "graphed", "train.steps_per_draw": 32}}
"""Settings under which seeds are trained alone and together."""
STRATEGIES = ("plain", "mixed", "unplateau", "weights-loss+context-loss", "component-loss")
LOOKS = 40
"""Rows of a run of the pair, at least."""
PAIR = ("plain", "unplateau")
LOOKING = 1.3
"""How much longer a run of the pair takes than its steps do, at most."""


def seconds(record: RunRecord | RunFailure) -> float:
    """Of training, without looks."""
    assert isinstance(record, RunRecord)
    assert record.done is not None
    return float(record.done["seconds"])


def of_stack(device: str, settings: Mapping[str, object], *, n: int, steps: int) -> dict[str, Any]:
    """Seeds of the demo, in one stack and one alone."""
    spec = demo().with_settings({"train.steps": steps, "train.probe_every": 0, **settings})
    with TemporaryDirectory() as folder:
        train(spec, out=f"{folder}/first", device=device, progress=False)  # what is done once in a process
        alone = train(spec, out=f"{folder}/alone", device=device, progress=False)
        specs = [spec.with_seed(seed) for seed in range(n)]
        together = train_many(specs, out=f"{folder}/together", device=device, stacked=True, progress=False)
    taken = {"alone": seconds(alone), "together": sum(map(seconds, together))}
    return {"seeds": n, "steps": steps, "seconds": taken, "ratio": taken["together"] / taken["alone"]}


def of_bits(device: str) -> dict[str, bool]:
    """Whether recorded steps of the demo leave the weights of steps that are made kernel by kernel, by strategy."""
    same: dict[str, bool] = {}
    for strategy in STRATEGIES:
        spec, weights = demo().with_settings({"train.steps": 25, "train.probe_every": 0}).with_strategy(strategy), []
        for execution in ("eager", "graphed"):
            with TemporaryDirectory() as folder:
                one = spec.with_settings({"train.execution": execution})
                weights.append(train(one, out=folder, device=device, progress=False).model().state_dict())
        one, other = weights
        same[strategy] = all(torch.equal(one[name], other[name]) for name in one)
    return same


def of_pair(device: str, size: str, way: str, *, steps: int) -> dict[str, Any]:
    """Progress of plain training and of the losses without annotation, after the same number of steps."""
    every = max(1, steps // LOOKS)
    settings = {
        "train.steps": steps,
        "train.eval_every": every,
        "train.probe_every": 0,
        "train.checkpoint_every": steps,
    }
    found: dict[str, Any] = {"size": size, "way": way, "steps": steps}
    with TemporaryDirectory() as folder:
        for strategy in PAIR:
            spec = made(size, way).with_settings(settings).with_strategy(strategy)
            record = train(spec, out=folder, device=device, progress=False)
            at, progress = record.history.column("progress")
            found[strategy] = {"seconds": seconds(record), "progress": [*zip(at, progress, strict=True)]}
    return found


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trial", action="store_true", help="the demo's size alone and few seeds")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    given = parser.parse_args()
    device, begun = torch.device(given.device), time.monotonic()
    torch.set_num_threads(1)
    report = surroundings(device)

    def keep(part: str, value: Any) -> None:
        report[part] = value
        print(f"{time.monotonic() - begun:.0f} s", json.dumps({part: value}), flush=True)
        write_json(given.json, report)

    speeds: list[Speed] = []
    for size in ["demo"] if given.trial else WAYS:
        for way in WAYS[size]:
            speeds.append(measured(size, device, way, given.repeats))
            keep("speeds", [asdict(one) for one in speeds])
    n, steps = (TRIAL_SEEDS, TRIAL_STEPS) if given.trial else (SEEDS, STACK_STEPS)
    stacks: dict[str, Any] = {}
    for name, settings in STACKED.items():
        keep("stack", stacks := stacks | {name: of_stack(given.device, settings, n=n, steps=steps)})
    keep("same_bits", of_bits(given.device))
    left = 60 * given.minutes - (time.monotonic() - begun)
    steps = int(left * speeds[-1].ours / len(PAIR) / LOOKING)
    keep("pair", of_pair(given.device, speeds[-1].size, WAYS[speeds[-1].size][-1], steps=max(LOOKS, steps)))


if __name__ == "__main__":
    main()
