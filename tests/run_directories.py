"""Synthetic run directories: the files a training run writes, with curves made up by a formula.

What enters: a strategy, a seed and when the curve is to fall. What leaves: a directory that ``load_run`` reads.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unplateau import store
from unplateau.files import write_json, write_whole
from unplateau.store import RunRecord, load_run

K, LABELS, LAYERS = 16, 4, 3
FACTORS = ("floor hue", "wall hue", "object hue", "scale", "shape", "orientation")
SIZES = (4, 4, 4, 4, 4, 5)
NO_CONTEXT = math.log(LABELS)
BAYES = [NO_CONTEXT * 0.55**k + 0.02 for k in range(K)]
BAYES_ACCURACY = [min(0.97, 0.25 + 0.12 * k) for k in range(K)]


@dataclass(frozen=True)
class MadeRun:
    """What to write. ``falls`` is the middle of the drop in steps (None: never); ``width`` its length."""

    strategy: str = "plain"
    seed: int = 0
    falls: float | None = None
    steps: int = 2000
    width: float = 120.0
    finished: bool = True
    probes: bool = True
    prompts: bool = True
    joules: bool = True
    flops_per_step: float = 2.5e9
    recipe: str = "demo"
    eval_every: int = 10
    cut: str = "self"
    progress: str = "loss"
    model: dict[str, object] = field(default_factory=lambda: {"n_layers": LAYERS, "width": 64, "n_heads": 2})
    command: str = "unplateau demo --seeds 2"
    settings: dict[str, object] = field(default_factory=dict)
    """Keys of the spec with dots, and their values."""


def make_run(folder: Path, run: MadeRun) -> RunRecord:
    """Writes the directory of one run below ``folder`` and reads it back."""
    safe = "".join(letter if letter.isalnum() or letter in "+-_.=" else "_" for letter in run.strategy)
    settings = "".join(f"-{value}" for value in run.settings.values())
    path = folder / run.recipe / (safe or "_") / f"seed-{run.seed}-{run.steps:010d}{settings}"
    write_json(path / store.TASK, task_of(run))
    write_json(path / store.ENV, environment_of(run))
    write_json(path / store.SPEC, spec_of(run))
    if run.prompts:
        write_whole(path / store.PROMPTS, prompts())
    rows = [row_of(run, step) for step in range(0, run.steps + 1, run.eval_every)]
    (path / store.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    costs = [{"step": row["step"], **costs_of(run, row["step"])} for row in rows]
    (path / store.COSTS).write_text("".join(json.dumps(row) + "\n" for row in costs))
    if run.finished:
        write_json(path / store.DONE, done_of(run, rows[-1]))
    return load_run(path)


def make_runs(folder: Path, runs: Sequence[MadeRun]) -> list[RunRecord]:
    """All of them."""
    return [make_run(folder, run) for run in runs]


DEMO = tuple(
    MadeRun(strategy, seed, None if falls is None else falls + 60 * seed, flops_per_step=flops)
    for strategy, falls, flops in (
        ("plain", None, 2.5e9),
        ("warm-up", 1300, 2.5e9),
        ("mixed", 620, 2.5e9),
        ("component-loss", 430, 2.7e9),
    )
    for seed in range(2)
)
"""Four strategies, two seeds, plain training stuck: what a demonstration looks like."""


def learned(run: MadeRun, step: int, share: float = 1.0) -> float:
    """From 0 to 1: how much of the way is done at this step; ``share`` below 1 lets it happen earlier."""
    if run.falls is None:
        return 0.0
    return 1 / (1 + math.exp(-(step - share * run.falls) / (run.width / 6)))


def row_of(run: MadeRun, step: int) -> dict[str, object]:
    noise = np.random.default_rng([run.seed, step])
    done = learned(run, step) * 0.97
    start = 0.35 * math.exp(-step / 15)
    bayes = float(np.mean(BAYES))
    loss = NO_CONTEXT + start + done * (bayes - NO_CONTEXT) + 0.012 * noise.standard_normal()
    accuracy = 0.25 + done * (float(np.mean(BAYES_ACCURACY)) - 0.25) + 0.012 * noise.standard_normal()
    row: dict[str, object] = {"step": step}
    if step:
        row |= {"train_loss": loss, "term/component-loss": loss / 2}
    row |= {"loss": loss, "accuracy": accuracy, "progress": (NO_CONTEXT - loss) / (NO_CONTEXT - bayes)}
    row |= {"rows": 64 * step, "tokens": 64 * 2 * K * step, "train_flops": int(run.flops_per_step * step)}
    if run.probes and (step % 100 == 0 or step == run.steps):
        row |= scores_of(run, step, noise)
        row |= {"test_loss": loss + 0.01, "test_accuracy": accuracy - 0.01, "test_progress": row["progress"]}
    return row


def scores_of(run: MadeRun, step: int, noise: np.random.Generator) -> dict[str, object]:
    depth = np.arange(run.model["n_layers"] + 1) / run.model["n_layers"]
    repaired = max(learned(run, step, 0.5), 0.15 * (1 - math.exp(-step / 200)))
    weights = 0.45 + 0.12 * depth + 0.4 * depth * repaired + 0.008 * noise.standard_normal(len(depth))
    context = 0.34 + 0.6 * depth * learned(run, step) + 0.015 * noise.standard_normal(len(depth))
    guesses = np.where(noise.random((2, K)) < 0.25 + 0.7 * learned(run, step), targets(), (targets() + 1) % LABELS)
    return {
        "cut": run.cut,
        "weights_score": weights.tolist(),
        "weights_control": (0.25 + 0.01 * noise.standard_normal(len(depth))).tolist(),
        "weights_chance": 0.27,
        "hidden_score": weights.tolist(),
        "context_score": context.tolist(),
        "context_control": (0.34 + 0.02 * noise.standard_normal(len(depth))).tolist(),
        "context_chance": 0.36,
        "weights_by_factor": {name: weights.tolist() for name in FACTORS},
        **three_things_of(depth, learned(run, step)),
        "guesses": guesses.tolist(),
    }


def three_things_of(depth: np.ndarray, done: float) -> dict[str, object]:
    scores: dict[str, object] = {"factor_share": (0.4 * depth * done).tolist()}
    for name, chance in (("few_shot", 0.27), ("binding", 1 / K), ("keep", 0.3), ("look", 0.15)):
        scores[f"{name}_score"] = (chance + (0.9 - chance) * depth * done).tolist()
        scores |= {f"{name}_control": [chance] * len(depth), f"{name}_chance": chance}
    return scores


def costs_of(run: MadeRun, step: int) -> dict[str, object]:
    joules = 0.45 * step if run.joules else None
    method = "estimate: CPU time x 12 W per core" if run.joules else "none"
    observers = {"observer_seconds": 0.004 * step, "observer_joules": 0.048 * step if run.joules else None}
    return {"seconds": 0.037 * step, **observers, "joules": joules, "energy_method": method}


def done_of(run: MadeRun, last: dict[str, object]) -> dict[str, object]:
    figures = {f"test_{name}": last[name] for name in ("loss", "accuracy", "progress")}
    costs = costs_of(run, run.steps)
    return {
        "step": run.steps,
        "finished": "2026-01-01T00:00:00+00:00",
        **figures,
        "train_flops": last["train_flops"],
    } | costs


def task_of(run: MadeRun) -> dict[str, object]:
    floors = {
        "no_context_loss": [NO_CONTEXT] * K,
        "no_context_accuracy": [0.25] * K,
        "bayes_loss": BAYES,
        "bayes_accuracy": BAYES_ACCURACY,
        "bayes_loss_error": 0.001,
        "n_prompts": 4096,
        "progress": run.progress,
    }
    return {
        "n_pairs": K,
        "n_labels": LABELS,
        "factor_names": FACTORS,
        "factor_sizes": SIZES,
        "hidden_factors": ["object hue", "scale", "shape"],
        "floors": floors,
        "parameters": 153_412,
        "budget_per_step": {"rows": 64, "tokens": 64 * 2 * K, "flops": {"forward+backward": int(run.flops_per_step)}},
    }


def environment_of(run: MadeRun) -> dict[str, object]:
    return {
        "run": {
            "recipe": run.recipe,
            "strategy": run.strategy,
            "seed": run.seed,
            "digest": "0123456789",
            "cut": run.cut,
            "command": run.command,
        },
        "versions": {"unplateau": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6", "commit": None},
        "machine": {"system": "Linux-6.1", "cpu": "x86_64", "cores": 2, "threads": 1, "device": "cpu", "gpu": None},
    }


def spec_of(run: MadeRun) -> dict[str, object]:
    source = {"kind": "Shapes3D", "floor_hues": [0, 2, 5, 7], "encoder": "pca"}
    spec: dict[str, Any] = {
        "recipe": run.recipe,
        "task": {"kind": "FactorTask", "source": source, "n_mappings": None, "n_pairs": K},
        "model": dict(run.model),
        "strategy": {"parts": []},
        "train": {"steps": run.steps, "batch_size": 64, "lr": 1e-3, "eval_every": run.eval_every, "probe_every": 100},
        "cut": run.cut,
        "seed": run.seed,
    }
    for key, value in run.settings.items():
        *parents, last = key.split(".")
        inner = spec
        for name in parents:
            inner = inner[name]
        inner[last] = value
    return spec


def targets() -> np.ndarray:
    """(2, K) labels of the two shown prompts."""
    return np.random.default_rng(7).integers(0, LABELS, (2, K))


def prompts() -> bytes:
    """``prompts.npz``: coloured squares stand in for pictures."""
    draw = np.random.default_rng(8)
    images = np.zeros((2, K, 32, 32, 3), dtype=np.uint8)
    images[:, :, :20] = draw.integers(60, 255, (2, K, 1, 1, 3))
    images[:, :, 20:] = draw.integers(60, 255, (2, K, 1, 1, 3))
    images[:, :, 10:26, 9:23] = draw.integers(60, 255, (2, K, 1, 1, 3))
    factors = draw.integers(0, 4, (2, K, len(FACTORS)))
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=images,
        labels=targets(),
        label_names=np.arange(LABELS).astype(str),
        hidden_factor=np.array([3, 2]),
        factors=factors,
    )
    return buffer.getvalue()
