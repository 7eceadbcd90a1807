"""What a study costs by its size, and whether that is foretold: ``python benchmarks/scaling.py``.

    python benchmarks/scaling.py              # all three parts, about ten minutes on two idle cores
    python benchmarks/scaling.py --only check # one part; the others stay as they were measured
    python benchmarks/scaling.py --table      # measures nothing: the tables of docs/concepts/scaling.md anew

``sizes``: a run of one base setting with one size changed at a time, by trials. ``workers``: equal runs by one and by
two workers, of a small model. ``check``: runs that nothing was fitted to, each foretold and then
trained in a worker process: seconds of the whole process, and joules that it booked, which begin after its start;
``first_check`` is what an earlier one, on a busier machine, had shown.
Everything with one thread. The machine, its versions and its load stand in benchmarks/results/scaling.json.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pages import made_anew, markdown

import unplateau as up
from unplateau import recipes
from unplateau.files import read_json, write_json
from unplateau.store import DONE
from unplateau.sweep.launch import Launch, local
from unplateau.sweep.local import run_many
from unplateau.sweep.process import job_of
from unplateau.sweep.trial import trial
from unplateau.train.describe import surroundings

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "scaling.json", HERE.parent / "docs" / "concepts" / "scaling.md"
CPU = torch.device("cpu")
SEEDS, STEPS = 5, 2000
"""Of the study that the table of sizes speaks of."""
BASE = up.RunSpec(
    recipe="base",
    task=up.FactorTask(source=up.RandomCodes(sizes=(10, 10, 10, 4), width=64), n_pairs=20),
    model=up.ModelConfig(n_layers=2, width=64),
    train=up.TrainConfig(steps=STEPS),
)
AXES: Mapping[str, Sequence[int]] = {
    "model.width": (32, 64, 128, 256),
    "model.n_layers": (1, 2, 4, 8),
    "task.n_pairs": (5, 10, 20, 40),
    "train.batch_size": (16, 32, 64, 128),
}
WORKED = {"small": (16, 8, 2000)}
"""Width, prompts in a batch, and steps of the runs that workers share."""


def held_out() -> Iterator[up.RunSpec]:
    """Ten runs of other tasks, sizes, strategies, optimisers and cadences than those that the model was made on."""

    def spec(recipe: up.RunSpec, strategy: up.Strategy | str, steps: int, **settings: Any) -> up.RunSpec:
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        return recipe.with_settings({"train.steps": steps, **changed}).with_strategy(strategy)

    yield spec(recipes.words(), "unplateau", 350)
    yield spec(recipes.digits(), "plain", 240, train__batch_size=32, model__width=96)
    yield spec(recipes.word_selection(), "component-loss", 500, model__n_layers=4)
    yield spec(recipes.clusters(), up.Strategy(up.LookLoss(until=80)), 400)
    yield spec(recipes.regression(), "plain", 200, model__width=128, train__batch_size=32, train__probe_every=0)
    yield spec(recipes.parity(), "plain", 400, train__optimiser="Muon")
    yield spec(recipes.labelled_text(), "match-loss", 250, train__batch_size=96)
    yield spec(recipes.shapes(), "mixed+weights-loss", 400, task__n_pairs=24, train__probe_every=40)
    yield spec(BASE, "plain", 60, model__n_layers=12, model__width=128, task__n_pairs=40, train__batch_size=32)
    yield spec(recipes.recall(), up.Strategy(up.WarmUp(steps=150)), 240, model__n_layers=1, train__batch_size=128)


def sizes() -> list[dict[str, Any]]:
    """The parts of a run by each axis, and the study of ``SEEDS`` seeds that it belongs to."""
    trial(BASE, CPU)  # what is made once
    rows = []
    for key, values in AXES.items():
        for value in values:
            spec = BASE.with_settings({key: value})
            found = trial(spec, CPU)
            (_, _, update), whole = found.updates[0], found.left()
            row = {"key": key, "value": value, "weights": spec.model.n_weights(spec.task.shape)}
            row |= {"flops": sum(found.flops.values()), "update": update.seconds, "update_joules": update.joules}
            row |= {"row": found.row.seconds, "method": found.method, "load": os.getloadavg()[0]}
            row |= {"probing": found.probing.seconds, "checkpoint": found.checkpoint.seconds}
            row |= {"start": found.start.seconds, "end": found.end.seconds}
            row |= {"updates_share": update.seconds * STEPS / whole.seconds}
            rows.append(row | {"study_seconds": SEEDS * whole.seconds, "study_joules": SEEDS * (whole.joules or 0)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def workers() -> list[dict[str, Any]]:
    """Seconds of four equal runs by one and by two workers."""
    rows = []
    for name, (width, batch, steps) in WORKED.items():
        settings = {"model.width": width, "train.batch_size": batch, "train.steps": steps, "train.probe_every": 0}
        specs = [BASE.with_settings(settings).with_seed(seed) for seed in range(4)]
        seconds = {}
        for at_once in (1, 2):
            with TemporaryDirectory() as folder:
                begun = time.perf_counter()
                run_many(specs, out=folder, workers=at_once, device="cpu", progress=False)
                seconds[at_once] = time.perf_counter() - begun
        rows.append({"runs": name, "one": seconds[1], "two": seconds[2], "ratio": seconds[1] / seconds[2]})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def check() -> list[dict[str, Any]]:
    """Each held-out run as it was foretold, and as it went."""
    rows = []
    with TemporaryDirectory() as folder, local(Path(folder), 1) as launch:
        out = Path(folder)
        taken(launch, BASE.with_settings({"train.steps": 1}), out)  # the server is begun with its first run
        for spec in held_out():
            told = trial(spec, CPU)
            seconds, joules = taken(launch, spec, out)
            row = {"run": described(spec), "foretold_seconds": told.left().seconds, "seconds": seconds}
            row |= {"foretold_joules": (told.left() + told.start * -1).joules, "joules": joules}
            rows.append(row | {"method": told.method, "load": os.getloadavg()[0]})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def taken(launch: Launch, spec: up.RunSpec, out: Path) -> tuple[float, float]:
    """Seconds of a worker process from its order to its end, and the joules that its run booked."""
    begun = time.perf_counter()
    said = out / "said"
    if launch(job_of(spec, out, threads=1, device="cpu"), said).wait(3600):
        raise SystemExit(said.read_text())
    seconds = time.perf_counter() - begun
    done = read_json(spec.directory(out) / DONE)
    return seconds, done["joules"] + done["observer_joules"]


def described(spec: up.RunSpec) -> str:
    """``words, unplateau, 3 layers of 64, batch 64, 350 steps``."""
    train, model = spec.train, spec.model
    size = f"{model.n_layers} layers of {model.width}, {spec.task.shape.layout.n_pairs} pairs, batch {train.batch_size}"
    looks = f"probes every {train.probe_every}" if train.probe_every else "no probes"
    return (
        f"{spec.recipe}, {spec.strategy.name}, {type(train.optimiser).__name__}; {size}; {train.steps} steps, {looks}"
    )


def table_of_sizes(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each setting."""
    head = ["changed", "weights", "GFLOP a step", "ms a step", "J a step", "GFLOP/J", "ms a row", "ms with probes"]
    head += ["start and end, s", "updates, % of the time", f"{SEEDS} seeds of {STEPS:,} steps: hours", "kWh"]
    lines = [
        [
            f"`{row['key']}={row['value']}`",
            f"{row['weights']:,}",
            f"{row['flops'] / 1e9:.2f}",
            f"{1e3 * row['update']:.1f}",
            f"{row['update_joules']:.2f}",
            f"{row['flops'] / row['update_joules'] / 1e9:.1f}",
            f"{1e3 * row['row']:.0f}",
            f"{1e3 * row['probing']:.0f}",
            f"{row['start'] + row['end']:.1f}",
            f"{100 * row['updates_share']:.0f}",
            f"{row['study_seconds'] / 3600:.2f}",
            f"{row['study_joules'] / 3.6e6:.4f}",
        ]
        for row in rows
    ]
    return [head, *lines]


def table_of_workers(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each model."""
    lines = [[row["runs"], f"{row['one']:.1f}", f"{row['two']:.1f}", f"{row['ratio']:.2f}"] for row in rows]
    return [["four runs of a", "seconds, one worker", "two workers", "times as fast"], *lines]


def error(row: Mapping[str, Any], what: str) -> float:
    """Of what was foretold, as a share of what came."""
    return float(row[f"foretold_{what}"] / row[what] - 1)


def table_of_check(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each held-out run."""
    lines = [
        [
            row["run"],
            *(
                text
                for what in ("seconds", "joules")
                for text in (
                    f"{row[f'foretold_{what}']:.0f}",
                    f"{row[what]:.0f}",
                    f"{100 * error(row, what):+.1f} %",
                )
            ),
        ]
        for row in rows
    ]
    return [["held-out run", "seconds, foretold", "real", "error", "joules, foretold", "real", "error"], *lines]


TABLES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], list[list[str]]]] = {
    "sizes": table_of_sizes,
    "workers": table_of_workers,
    "check": table_of_check,
}


def page(text: str, found: Mapping[str, Any]) -> str:
    """The page with its tables made anew, those of parts that were measured."""
    return made_anew(text, lambda _, part: markdown(TABLES[part](found[part])) if part in found else None)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {"sizes": sizes, "workers": workers, "check": check}
    parser.add_argument("--only", choices=parts, help="one part")
    parser.add_argument("--table", action="store_true", help="measure nothing, only write the tables anew")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        found = read_json(RESULTS) if RESULTS.exists() else {}
        for name in [given.only] if given.only else parts:
            found |= {**surroundings(CPU), name: parts[name]()}
            write_json(RESULTS, found)
    PAGE.write_text(page(PAGE.read_text("utf-8"), read_json(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
