"""A run that is made longer equals one that was as long from the start, bit for bit."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import unplateau as up
from tiny_run import TINY
from unplateau import store
from unplateau.errors import InterruptedRunError, RunDirectoryError, SpecError
from unplateau.store import RunRecord
from unplateau.train.observers import Event

STRATEGY = up.Strategy(up.WarmUp(steps=7), up.Mixed(), up.WeightsLoss(), up.MatchLoss())


def of_length(steps: int, **train: object) -> up.RunSpec:
    return TINY.with_settings(
        {"train.steps": steps, "strategy": STRATEGY, **{f"train.{k}": v for k, v in train.items()}}
    )


def what_it_is(run: RunRecord) -> tuple[Any, ...]:
    """Everything that is a function of the spec."""
    rows = (run.path / store.METRICS).read_bytes()
    tensors = load_file(sorted((run.path / store.CHECKPOINTS).glob("step-*/tensors.safetensors"))[-1])
    bits = {
        name: tensor.view(torch.uint8).tolist() if tensor.ndim else tensor.item() for name, tensor in tensors.items()
    }
    assert run.done is not None
    figures = {name: value for name, value in run.done.items() if name.startswith("test_") or name == "train_flops"}
    return json.loads((run.path / store.SPEC).read_text()), rows, bits, figures


def forget_the_state_before_the_last_row(run: Path) -> None:
    for path in (run / store.CHECKPOINTS).glob("*/state.json"):
        state = json.loads(path.read_text())
        for later in ("before_row", "checksum", "tensors"):
            state.pop(later, None)
        path.write_text(json.dumps(state))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return what_it_is(up.train(of_length(30), out=tmp_path_factory.mktemp("long"), device="cpu"))


@pytest.mark.parametrize(
    ("first", "goes_on"),
    [
        (20, 20),  # a row and a look were due at its last step
        (15, 8),  # a row was due, a look was not
        (18, 16),  # nothing was due
        (7, None),  # neither, and it has no other checkpoint
    ],
)
@pytest.mark.parametrize("of_today", [True, False], ids=["today", "an earlier version"])
def test_as_long_from_the_start(
    tmp_path: Path,
    long: tuple[Any, ...],
    first: int,
    goes_on: int | None,
    of_today: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    short = up.train(of_length(first), out=tmp_path, device="cpu")
    if of_today:
        goes_on = first
    else:
        forget_the_state_before_the_last_row(short.path)
    before = what_it_is(short)
    with caplog.at_level(logging.WARNING):
        longer = up.extend(short, 30, device="cpu")
    said = f"goes on from step {goes_on} of {short.path}" if goes_on else "starts anew"
    assert said in caplog.text
    assert what_it_is(longer) == long
    assert longer.path == of_length(30).directory(tmp_path)
    assert what_it_is(up.load_run(short.path)) == before


def test_twice_and_again(tmp_path: Path, long: tuple[Any, ...]) -> None:
    up.train(of_length(10), out=tmp_path, device="cpu")
    middle = up.extend(of_length(10).directory(tmp_path), 20, device="cpu")
    assert what_it_is(up.extend(middle.path, 30, device="cpu")) == long
    assert what_it_is(up.extend(middle.path, 30, device="cpu")) == long


def test_one_that_was_stopped(tmp_path: Path, long: tuple[Any, ...]) -> None:
    class Stop:
        every = 1

        def __call__(self, event: Event) -> dict[str, Any]:
            if event.step == 12:
                raise KeyboardInterrupt
            return {}

    with pytest.raises((InterruptedRunError, KeyboardInterrupt)):
        up.train(of_length(20), out=tmp_path, device="cpu", observers=(*up.default_observers(of_length(20)), Stop()))
    longer = up.extend(of_length(20).directory(tmp_path), 30, device="cpu")
    assert longer.done is not None
    assert longer.done["step"] == 30


def test_what_would_be_another_run_is_refused(tmp_path: Path) -> None:
    run = up.train(of_length(4, schedule="cosine"), out=tmp_path, device="cpu")
    with pytest.raises(SpecError, match="is 4 steps long already"):
        up.extend(run, 4)
    with pytest.raises(SpecError, match="cosine, so that a run of 30 steps has other learning rates from the start"):
        up.extend(run, 30)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        up.extend(tmp_path, 30)
    assert [path.name for path in (tmp_path / "tiny" / run.strategy).iterdir()] == [run.path.name]
    moved = tmp_path / "elsewhere"
    run.path.rename(moved)
    (moved / store.SPEC).write_text((moved / store.SPEC).read_text().replace("cosine", "constant"))
    with pytest.raises(RunDirectoryError, match="was moved or renamed"):
        up.extend(moved, 30)


def test_begun_with_the_weights_of_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    donor = up.train(of_length(6), out=tmp_path, device="cpu")
    spec = TINY.with_seed(3).init_from(donor)
    assert spec == TINY.with_seed(3).init_from(of_length(6))
    with caplog.at_level(logging.WARNING):
        run = up.train(spec, out=tmp_path, device="cpu")
    assert "trained first" not in caplog.text
    assert run.history[0]["loss"] != up.train(TINY.with_seed(3), out=tmp_path, device="cpu").history[0]["loss"]
    part = TINY.with_seed(3).init_from(donor, "blocks.0")
    assert part.grafts[0].modules == ("blocks.0",)
    assert part.digest() not in (spec.digest(), TINY.with_seed(3).digest())


def test_the_model_of_a_run(tmp_path: Path) -> None:
    run = up.train(of_length(6), out=tmp_path, device="cpu")
    spec, model = up.load_model(run.path)
    assert spec == of_length(6)
    batch = TINY.task.sample(0, batch_size=4)
    with torch.no_grad():
        assert torch.equal(run.model()(batch.inputs).logits, model(batch.inputs).logits)
        assert torch.equal(up.load_run(run.path).model()(batch.inputs).logits, model(batch.inputs).logits)
