"""Train plainly and with a strategy, compare, and write a report: the whole chain on a task of seconds."""

import sys

import unplateau as up

out = sys.argv[1] if len(sys.argv) > 1 else "runs"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 600

plain = up.RunSpec(
    recipe="plain-example",
    task=up.FactorTask(source=up.RandomCodes(sizes=(4, 4), width=16), n_pairs=8),
    model=up.ModelConfig(n_layers=3, width=32),
    train=up.TrainConfig(steps=steps, batch_size=32),
)
helped = plain.with_strategy(up.Strategy(up.ComponentLoss(items=64)))
runs = [up.train(spec.with_seed(seed), out=out) for spec in (plain, helped) for seed in range(2)]

print(up.compare(runs, baseline="plain"))
print(up.write_report(runs, f"{out}/plain-example.html"))
