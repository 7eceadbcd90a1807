"""What a run takes is told before anything is made, and never more than it does take."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unplateau as up
from unplateau import limits
from unplateau.config import Kind, parts_of
from unplateau.errors import SpecError
from unplateau.recipes import CLASSIC, RECIPES
from unplateau.train.spec import expand
from unplateau.train.step import build_model

LARGE = 10**13


def tiny(**changes: Any) -> up.RunSpec:
    task = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8, copies=4), n_pairs=4)
    return up.RunSpec(task=task).with_settings({key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize(
    "changes",
    [
        {"train__batch_size": LARGE},
        {"train__eval_prompts": LARGE},
        {"train__final_prompts": LARGE},
        {"train__probe_prompts": LARGE},
        {"train__steps": LARGE},
        {"train__steps_per_draw": LARGE},
        {"model__width": 200_000},
        {"model__n_layers": LARGE},
        {"task__source__copies": LARGE},
        {"task__source__width": LARGE},
        {"task__source__hidden": LARGE},
        {"task__source__sizes": [LARGE, 3]},
        {"task__source__sizes": [2] * 26},
        {"task__n_mappings": LARGE},
        {"strategy": "component-loss", "strategy__parts__0__items": LARGE},
        {"task": up.LinearRegression(dimension=10**6)},
        {"task": up.LinearRegression(n_pairs=LARGE)},
        {"task": up.LinearRegression(n_mappings=LARGE)},
        {"task": up.SparseParity(n_pairs=LARGE)},
        {"task": up.Clusters(n_classes=LARGE)},
        {"task": up.Clusters(width=LARGE)},
        {"task": up.Clusters(n_mappings=LARGE)},
        {"task": up.Clusters(n_pairs=LARGE)},
        {"task": up.AssociativeRecall(n_keys=LARGE)},
        {"task": up.AssociativeRecall(n_labels=LARGE)},
        {"task": up.AssociativeRecall(n_pairs=LARGE)},
        {"task": up.Mixture(tasks=(up.AssociativeRecall(n_keys=LARGE),), shares=(1.0,))},
        {"task__source": up.Shapes3D(width=LARGE)},
        {"task__source": up.LabelledText(written="pieces", most_pieces=LARGE)},
        {"task__source": up.Amplified(source=up.RandomCodes(copies=LARGE), factors_amplified=("a",))},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_its_estimate_before_anything_is_made(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "memory", lambda: 32 * 10**9)
    spec = tiny(**changes)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(SpecError, match=r"at least [\d,.e+]+ (GB|hours)") as caught:
        spec.check()
    assert time.process_time() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sparsity", [500_000, 3])
def test_sets_of_weights_without_end_are_not_counted_to_their_end(sparsity: int) -> None:
    with pytest.raises(SpecError, match="sets of nonzero weights, at most 2000"):
        up.LinearRegression(dimension=1_000_000, sparsity=sparsity)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "labelled-text"])
def test_no_recipe_is_refused_on_a_small_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory", lambda: 2 * 10**9)
    RECIPES[name]().estimate().refuse()


@pytest.mark.parametrize("name", [*CLASSIC, "words", "word-selection", "demo"])
def test_weights_are_counted_as_they_are(name: str) -> None:
    spec = RECIPES[name]()
    model = build_model(spec, torch.device("cpu"))
    assert spec.model.n_weights(spec.task.shape) == sum(weights.numel() for weights in model.parameters())


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 40), st.integers(1, 20))
def test_a_batch_takes_what_it_is_said_to_take(n_layers: int, heads: int, n_pairs: int, batch_size: int) -> None:
    """Bytes that autograd keeps of an update, which is what the estimate counts, and no more than that."""
    spec = tiny(model__n_layers=n_layers, model__width=8 * heads, model__n_heads=heads)
    task = spec.task.model_copy(update={"n_pairs": min(n_pairs, 7)})
    spec = spec.model_copy(update={"task": task}).with_settings({"train.batch_size": batch_size})
    model, kept = build_model(spec, torch.device("cpu")), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        batch = task.sample(0, batch_size=batch_size)
        output = model(batch.inputs)
    weights = sum(one.numel() for one in model.parameters()) * 4
    there = sum(storage.nbytes() for storage in kept.values()) + output.hidden.nbytes + output.logits.nbytes
    found = spec.with_settings({"train.eval_prompts": 1, "train.final_prompts": 1, "train.probe_every": 0}).estimate()
    assert found.batch <= there + weights + 1000 * batch_size
    assert found.model >= 4 * weights


@pytest.mark.parametrize(
    "source",
    [up.RandomCodes(copies=20), up.RandomCodes(sizes=(5, 7), width=300, copies=40, hidden=90)],
    ids=str,
)
def test_codes_take_what_they_are_said_to_take(source: up.RandomCodes) -> None:
    """Two halves of a law: at least a tenth of the estimate stays, and what is made on the way is of its size."""
    stays = source.factors().nbytes + source.vectors(torch.arange(len(source.factors()))).nbytes
    assert stays <= source.data_bytes() <= 40 * stays


def test_what_is_equal_counts_once() -> None:
    source = up.RandomCodes(copies=10)
    one = up.FactorTask(source=source, hidden=("a",))
    both = up.Mixture(tasks=(one, one.shuffled()), shares=(0.5, 0.5))
    alone, together = up.RunSpec(task=one).estimate(), up.RunSpec(task=both).estimate()
    assert alone.data == together.data > 0


def test_every_kind_tells_its_size() -> None:
    for make in RECIPES.values():
        sizes = [part.data_bytes() for _, part in parts_of(make()) if isinstance(part, Kind)]
        assert all(isinstance(size, int) and 0 <= size < 10**10 for size in sizes)


def test_grids_are_counted_before_they_are_made() -> None:
    axes = [(f"train.{name}", tuple(range(1, 11))) for name in type(tiny().train).model_fields][:9]
    start = time.process_time()
    with pytest.raises(SpecError, match=r"10 values x .* 1 seeds: at least [\d,]+ GB"):
        expand(tiny(), axes, [0])
    assert time.process_time() - start < 1
