"""Precision: a named choice that changes rounding and nothing else."""

from pathlib import Path

import pytest
import torch

from tiny_run import TINY
from unplateau.testing import check_resume
from unplateau.train.loop import train
from unplateau.train.step import build_heads, build_model, compute_losses

CPU = torch.device("cpu")
HALF = TINY.with_settings({"train.precision": "bfloat16"})


def test_the_default_leaves_specs_as_they_were() -> None:
    assert "precision" not in TINY.model_dump_json()


@pytest.mark.parametrize("strategy", ["plain", "weights-loss", "unplateau"])
def test_bfloat16_is_near_and_its_losses_and_weights_are_float32(strategy: str) -> None:
    found = []
    for spec in (one.with_strategy(strategy) for one in (TINY, HALF)):
        model, heads = build_model(spec, CPU), build_heads(spec, CPU)
        batch = spec.task.sample(0, batch_size=16, seed=0)
        losses = compute_losses(spec, model, heads, spec.task, batch, 0)
        losses.total.backward()
        assert {one.dtype for one in (losses.total, *losses.terms.values(), *model.parameters())} == {torch.float32}
        found.append(losses.total.item())
    assert found[1] == pytest.approx(found[0], rel=0.02)
    assert found[1] != found[0]


def test_a_run_in_bfloat16_resumes_exactly_and_says_what_it_is(tmp_path: Path) -> None:
    check_resume(HALF, stop_at=10)
    assert train(HALF, out=tmp_path, progress=False).spec["train"]["precision"] == "bfloat16"
