"""The training loop: exact, resumable, honest about divergence."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_run import TINY
from unplateau.errors import DivergedError, RunDirectoryError, RunLockedError, SpecError
from unplateau.models.transformer import ModelConfig
from unplateau.store import load_run, locked
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.mixture import Mixture
from unplateau.tasks.regression import LinearRegression
from unplateau.testing import check_observer, check_resume
from unplateau.train.checkpoint import load_model
from unplateau.train.describe import SHAPE, read_shape
from unplateau.train.loop import choose_device, train
from unplateau.train.observers import Event, default_observers, due
from unplateau.train.spec import Graft, RunSpec
from unplateau.train.step import build_model

EVERYTHING = Strategy(WarmUp(steps=7), Mixed(), WeightsLoss(), ComponentLoss(items=6))


def test_rows_have_the_columns_that_readers_expect(tmp_path: Path) -> None:
    run = train(TINY.with_strategy(EVERYTHING), out=tmp_path, device="cpu")
    assert [row["step"] for row in run.history] == [0, 5, 10, 15, 20]
    for row in run.history:
        assert {"loss", "accuracy", "progress", "rows", "tokens", "train_flops", "seconds", "joules"} <= set(row)
        assert row["rows"] == 8 * row["step"]
        assert row["tokens"] == 64 * row["step"]
        assert ("weights_score" in row) == (row["step"] % 10 == 0)
        assert ("term/weights-loss" in row) == (row["step"] > 0)
    scores = run.history[-1]
    assert len(scores["weights_score"]) == len(scores["context_control"]) == 3
    assert set(scores["weights_by_factor"]) == {"a", "b"}
    assert scores["cut"] == "self"
    assert run.done is not None
    assert run.done["step"] == 20
    assert run.strategy == "warm-up[steps=7]+mixed+weights-loss+component-loss[items=6]"


def test_labels_that_are_numbers_have_a_loss_and_no_accuracy(tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"task": LinearRegression(n_pairs=6)})
    run = train(spec.with_strategy(Strategy(WarmUp(steps=7), Mixed())), out=tmp_path, device="cpu")
    assert run.done is not None
    for name in ("accuracy", "test_accuracy", "guesses", "weights_score", "context_score"):
        assert not run.history.column(name)[0]
        assert name not in run.done
    assert run.done["test_progress"] == pytest.approx(run.floors.progress_of(loss=run.done["test_loss"], accuracy=None))
    assert 0.5 < run.done["test_loss"] < 3
    assert load_model(run.path)[0] == spec.with_strategy(Strategy(WarmUp(steps=7), Mixed()))


def test_a_model_learns_from_numbers(tmp_path: Path) -> None:
    task = LinearRegression(dimension=1, n_pairs=6).fixed()
    config = TINY.train.model_copy(update={"steps": 150, "batch_size": 32, "lr": 1e-2})
    mixture = Mixture(tasks=(task, LinearRegression(dimension=1, n_pairs=6)), shares=(0.9, 0.1))
    run = train(TINY.model_copy(update={"task": mixture, "train": config}), out=tmp_path, device="cpu")
    losses = run.history.column("train_loss")[1]
    assert losses[-1] < 0.5 * losses[0]


def test_shapes_written_before_labels_could_be_numbers_are_read(tmp_path: Path) -> None:
    run = train(TINY, out=tmp_path, device="cpu")
    shape = json.loads((run.path / SHAPE).read_text())
    assert shape.pop("labels_are_numbers") is False
    assert all(factor.pop("identity") is False for factor in shape["factors"])
    (run.path / SHAPE).write_text(json.dumps(shape))
    assert read_shape(run.path) == TINY.task.shape


def test_flops_of_the_parts_are_booked(tmp_path: Path) -> None:
    plain = train(TINY, out=tmp_path, device="cpu").task["budget_per_step"]["flops"]
    parts = train(TINY.with_strategy(EVERYTHING), out=tmp_path, device="cpu").task["budget_per_step"]["flops"]
    assert set(parts) == {"prediction", "weights-loss", "component-loss[items=6]"}
    assert parts["prediction"] == plain["prediction"]
    # the head of 6 outputs on 8 x 4 items of width 8: forward, and backward to the inputs and to the weights
    assert parts["weights-loss"] == 3 * 2 * (8 * 4) * 8 * 6
    assert 0 < parts["component-loss[items=6]"] < plain["prediction"]


def test_what_is_frozen_stays_as_it_was_and_all_else_is_trained(tmp_path: Path) -> None:
    frozen = TINY.model_copy(update={"train": TINY.train.model_copy(update={"frozen": ("item_embedding",)})})
    assert "frozen" not in TINY.model_dump(mode="json")["train"]
    spec, trained = load_model(train(frozen, out=tmp_path, device="cpu").path)
    assert spec == frozen
    for name, before in build_model(frozen, torch.device("cpu")).named_parameters():
        after = trained.get_parameter(name)
        assert torch.equal(before, after) is name.startswith("item_embedding.")
    check_resume(frozen, stop_at=10)
    wrong = frozen.model_copy(update={"train": TINY.train.model_copy(update={"frozen": ("item_embeddings",)})})
    with pytest.raises(SpecError, match="no module 'item_embeddings'; did you mean 'item_embedding'"):
        train(wrong, out=tmp_path, device="cpu")


def test_a_run_begins_with_the_weights_that_others_have_ended_with(tmp_path: Path) -> None:
    """The donors are trained first, into the same folder; the weights of a run of no step show what it began with."""
    assert "grafts" not in TINY.model_dump(mode="json")
    donor, other = TINY.with_strategy("unplateau"), TINY.with_seed(1)
    grafts = (Graft(donor=other), Graft(donor=donor, modules=("blocks.0.attention", "item_embedding")))
    config = TINY.train.model_copy(update={"lr": 1e-12})
    run = TINY.model_copy(update={"grafts": grafts, "train": config})
    spec, begun = load_model(train(run, out=tmp_path, device="cpu").path)
    assert spec == run == RunSpec.model_validate(run.model_dump(mode="json"))
    (_, given), (_, rest) = (load_model(one.directory(tmp_path)) for one in (donor, other))
    for name, value in begun.state_dict().items():
        source = given if name.startswith(("blocks.0.attention.", "item_embedding.")) else rest
        assert torch.allclose(value, source.state_dict()[name], atol=1e-6), name
    check_resume(run, stop_at=10)


@pytest.mark.parametrize(
    ("graft", "message"),
    [
        ({"modules": ("blocks.0.attentoin",)}, "no module 'blocks.0.attentoin'; did you mean 'blocks.0.attention'"),
        ({"model": {"width": 16}}, "of the donor does not fit this model"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, graft: dict[str, Any], message: str) -> None:
    donor = TINY.model_copy(update={"model": ModelConfig(**{"n_layers": 2, "width": 8} | graft.pop("model", {}))})
    with pytest.raises(SpecError, match=message):
        train(TINY.model_copy(update={"grafts": (Graft(donor=donor, **graft),)}), out=tmp_path, device="cpu")


@pytest.mark.parametrize("strategy", [Strategy(), EVERYTHING], ids=["plain", "everything"])
def test_stop_and_resume_equal_one_go(strategy: Strategy) -> None:
    check_resume(TINY.with_strategy(strategy), stop_at=10)


@pytest.mark.parametrize("number", range(3))
def test_observers_do_not_touch_the_trajectory(number: int) -> None:
    check_observer(default_observers(TINY)[number], TINY)


class Meddler:
    """Tries to change what it is shown."""

    every = 5

    def __call__(self, event: Event) -> dict[str, float]:
        for parameter in event.model.parameters():
            parameter.data.zero_()
        torch.manual_seed(0)
        return {}


def test_not_even_a_meddling_observer_touches_it() -> None:
    check_observer(Meddler(), TINY)


def test_finished_run_is_returned_without_training(tmp_path: Path) -> None:
    first = train(TINY, out=tmp_path, device="cpu")
    written = (first.path / "metrics.jsonl").stat().st_mtime_ns
    assert train(TINY, out=tmp_path, device="cpu").done == first.done
    assert (first.path / "metrics.jsonl").stat().st_mtime_ns == written
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        train(TINY, out=tmp_path, resume=False)


def test_divergence_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"train": TINY.train.model_copy(update={"lr": 1e30, "checkpoint_every": 1})})
    with pytest.raises(DivergedError, match=r"at step \d+; the last checkpoint is kept"):
        train(spec, out=tmp_path, device="cpu")
    run = load_run(spec.directory(tmp_path))
    assert run.done is None
    assert list((run.path / "checkpoints").iterdir())
    assert all(math.isfinite(row["loss"]) for row in run.history)


def test_directory_of_another_spec_is_refused(tmp_path: Path) -> None:
    run = train(TINY, out=tmp_path, device="cpu")
    (run.path / "DONE.json").unlink()
    spec = json.loads((run.path / "spec.json").read_text())
    (run.path / "spec.json").write_text(json.dumps({**spec, "seed": 5}))
    with pytest.raises(RunDirectoryError, match="another spec"):
        train(TINY, out=tmp_path, device="cpu")


def test_second_trainer_on_a_directory_is_refused(tmp_path: Path) -> None:
    with locked(TINY.directory(tmp_path)), pytest.raises(RunLockedError, match="another process"):
        train(TINY, out=tmp_path, device="cpu")


def test_unknown_device_is_one_clear_line() -> None:
    with pytest.raises(SpecError, match="device 'gpu' cannot be used here"):
        choose_device("gpu")


def test_observers_look_first_and_last() -> None:
    observers = default_observers(TINY)
    assert len(due(observers, 0, 17)) == len(due(observers, 17, 17)) == 3
    assert len(due(observers, 5, 17)) == 1
    assert due(observers, 3, 17) == []


def test_progress_is_read_on_the_target_task(tmp_path: Path) -> None:
    """A warm-up that never ends learns D_fix; the columns still show the target task, for every strategy alike."""
    warm = train(TINY.with_strategy(Strategy(WarmUp(steps=100))), out=tmp_path, device="cpu")
    plain = train(TINY, out=tmp_path, device="cpu")
    assert warm.history[0]["loss"] == plain.history[0]["loss"]
    assert warm.history[-1]["train_loss"] != plain.history[-1]["train_loss"]
