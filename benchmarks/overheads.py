"""What observing, probing and the extra losses cost, as ratios to a bare training step, measured in one run.

    python benchmarks/overheads.py [--steps 60]

Every ratio is a median over interleaved repetitions on one thread, so that a noisy machine disturbs both sides alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from unplateau.recipes import demo
from unplateau.strategies.losses import ComponentLoss, ContextLoss, WeightsLoss
from unplateau.strategies.strategy import Strategy
from unplateau.train.observers import Event, default_observers
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, compute_losses, step_flops
from unplateau.train.updates import Updates

CPU = torch.device("cpu")
STRATEGIES = (
    Strategy(),
    Strategy(WeightsLoss()),
    Strategy(ContextLoss()),
    Strategy(ComponentLoss()),
    Strategy(ComponentLoss(rows=8)),
    Strategy(ComponentLoss(items=256)),
)


def stepper(spec: RunSpec) -> Callable[[int], None]:
    """One training step of this spec, batch drawing included."""
    model, heads = build_model(spec, CPU), build_heads(spec, CPU)
    updates = Updates(spec.train, model, heads)

    def step(number: int) -> None:
        task = spec.task
        batch = task.sample(number, batch_size=spec.train.batch_size, seed=spec.seed)
        updates.zero_grad()
        compute_losses(spec, model, heads, task, batch, number).total.backward()
        updates.step(number)

    return step


def flops(spec: RunSpec) -> int:
    """Of one training step of this spec."""
    return sum(step_flops(spec, build_model(spec, CPU), build_heads(spec, CPU), CPU).values())


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Prints two tables of ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="repetitions of each measurement")
    n_steps = parser.parse_args().steps
    torch.set_num_threads(1)
    plain = demo()
    specs = [plain.with_strategy(strategy) for strategy in STRATEGIES]
    steppers = [stepper(spec) for spec in specs]
    times: list[list[float]] = [[] for _ in specs]
    for number in range(n_steps + 5):
        for index, step in enumerate(steppers):
            times[index].append(seconds(lambda step=step, number=number: step(number)))
    bare = median(times[0][5:])
    print(f"step of plain training: 1.00 (here {1000 * bare:.0f} ms)\n\n{'strategy':28} time/step  FLOPs/step")
    for spec, values in zip(specs, times, strict=True):
        print(f"{spec.strategy.name:28} {median(values[5:]) / bare:9.2f}  {flops(spec) / flops(plain):10.3f}")

    event = Event(0, plain, build_model(plain, CPU), CPU)
    print(f"\n{'observer':28} share of training time at its default cadence")
    for observer in default_observers(plain):
        with torch.no_grad():
            cost = median(seconds(lambda observer=observer: observer(event)) for _ in range(9))
        print(f"{type(observer).__name__:28} {100 * cost / (observer.every * bare):5.1f} %")


if __name__ == "__main__":
    main()
