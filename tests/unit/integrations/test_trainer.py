"""The Trainer of transformers with a strategy: absent bit for bit, exact to resume, scaled as its own loss."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from unplateau.errors import CheckpointError, MissingExtraError, SpecError
from unplateau.integrations.annotation import TokenClasses
from unplateau.integrations.datasets import CurriculumDataset
from unplateau.integrations.scores import TokenScores
from unplateau.integrations.trainer import HEADS, StrategyMixin, StrategyTrainer, UnplateauCallback
from unplateau.logs import read_curve
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy

NewModel = Callable[..., Any]
CLASSES = torch.arange(24) % 3
TERMS = Strategy(ComponentLoss(items=6), WeightsLoss(weight=0.5))


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def rows(n_rows: int, seed: int) -> list[dict[str, Tensor]]:
    tokens = torch.randint(24, (n_rows, 10), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": row, "kind": CLASSES[row]} for row in tokens]


class Batches(TrainerCallback):
    """Keeps what the model was trained on."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def watch(self, model: Any) -> None:
        def keep(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if module.training:
                self.seen.append(kwargs["input_ids"])

        model.register_forward_pre_hook(keep, with_kwargs=True)


@pytest.fixture
def new_trainer(new_model: NewModel, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes a Trainer on a tiny model; settings of TrainingArguments and arguments of the Trainer."""

    def new(kind: type = StrategyTrainer, arguments: dict[str, Any] | None = None, **settings: Any) -> Any:
        args = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 6,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "remove_unused_columns": True,
        }
        training = TrainingArguments(**(args | (arguments or {})))
        model = settings.pop("model", None) or new_model()
        return kind(model=model, args=training, train_dataset=rows(40, 1), data_collator=collate, **settings)

    return new


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def same_weights(one: Any, other: Any) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("strategy", [None, Strategy(ComponentLoss(weight=0))])
def test_without_terms_it_is_the_plain_trainer(
    new_trainer: Callable[..., Any], strategy: Strategy | None, accumulate: int, tmp_path: Path
) -> None:
    settings = {"arguments": {"gradient_accumulation_steps": accumulate, "output_dir": str(tmp_path / "a")}}
    plain = new_trainer(Trainer, **settings)  # a Trainer seeds the global generator when it is made
    plain.train()
    scores = UnplateauCallback(lambda model: TokenScores(model, collate(rows(8, 3)), CLASSES), every=2)
    helped = new_trainer(strategy=strategy, callbacks=[scores], **settings)
    helped.train()
    assert losses(plain) == losses(helped)
    assert len(losses(plain)) == 6
    assert same_weights(plain, helped)


def test_terms_are_added_and_the_heads_are_trained(new_trainer: Callable[..., Any]) -> None:
    plain, helped = new_trainer(Trainer), new_trainer(strategy=TERMS, annotation=CLASSES)
    heads = {name: tensor.clone() for name, tensor in helped.helper.state_dict().items()}
    for trainer in (plain, helped):
        trainer.train()
    assert all(with_term > alone + 0.5 for with_term, alone in zip(losses(helped)[:2], losses(plain), strict=False))
    assert all(not torch.equal(heads[name], tensor) for name, tensor in helped.helper.state_dict().items())
    assert int(helped.helper.calls) == 6
    decayed = [group for group in helped.optimizer.param_groups if group["params"]]
    assert sum(len(group["params"]) for group in decayed) == len(
        [*helped.model.parameters(), *helped.helper.parameters()]
    )


@pytest.mark.parametrize("counted", [True, False])
def test_accumulated_micro_batches_give_the_terms_gradient_of_their_mean(
    new_trainer: Callable[..., Any], counted: bool
) -> None:
    """Only the term moves the heads, and one step of plain descent shows its gradient."""
    gradients = []
    for accumulate, size in ((1, 8), (2, 4)):
        settings = {"gradient_accumulation_steps": accumulate, "per_device_train_batch_size": size, "max_steps": 1}
        fixed = {
            "optim": "sgd",
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "train_sampling_strategy": "sequential",
        }
        trainer = new_trainer(arguments=settings | fixed, strategy=Strategy(ComponentLoss()), annotation=CLASSES)
        trainer.model_accepts_loss_kwargs = counted
        before = [head.detach().clone() for head in trainer.helper.parameters()]
        trainer.train()
        moved = [a - b.detach() for a, b in zip(before, trainer.helper.parameters(), strict=True)]
        gradients.append([one / 1e-2 for one in moved])
        assert min(float(one.norm()) for one in moved) > 0
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-5)


def test_gradients_of_heads_do_not_pile_up(new_trainer: Callable[..., Any]) -> None:
    trainer = new_trainer(
        arguments={"optim": "sgd", "lr_scheduler_type": "constant", "max_steps": 3, "learning_rate": 1e-12},
        strategy=Strategy(ComponentLoss()),
        annotation=CLASSES,
    )
    trainer.train_dataset = rows(4, 1)
    trainer.train()
    last = [head.grad.clone() for head in trainer.helper.parameters()]
    trainer.helper.zero_grad()
    trainer.helper(collate(rows(4, 1))).backward()
    for found, wanted in zip(last, trainer.helper.parameters(), strict=True):
        torch.testing.assert_close(found, wanted.grad)


@pytest.mark.parametrize("strategy", [TERMS, Strategy(WarmUp(steps=4), Mixed(fraction=0.3), ComponentLoss(items=6))])
def test_resuming_is_exact(new_trainer: Callable[..., Any], strategy: Strategy, tmp_path: Path) -> None:
    def new(out: str, **more: Any) -> Any:
        settings = {"output_dir": str(tmp_path / out), "save_strategy": "steps", "save_steps": 3} | more
        settings |= {"gradient_accumulation_steps": 2}
        given = {"fixed_dataset": rows(16, 2), "callbacks": [UnplateauCallback(Counting(), every=2)]}
        return new_trainer(arguments=settings, strategy=strategy, annotation=CLASSES, **given)

    whole = new("whole")
    whole.train()
    first = new("torn")
    first.add_callback(StopAt(4))
    first.train()
    assert first.state.global_step == 4
    checkpoint = tmp_path / "torn" / "checkpoint-3"
    assert (checkpoint / HEADS).is_file()
    resumed = new("torn")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert losses(resumed) == losses(whole)
    assert same_weights(resumed, whole)
    heads = zip(resumed.helper.state_dict().values(), whole.helper.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in heads)
    assert read(tmp_path / "torn") == read(tmp_path / "whole")
    (checkpoint / HEADS).unlink()
    with pytest.raises(CheckpointError, match="heads of the loss terms are missing"):
        new("torn").train(resume_from_checkpoint=str(checkpoint))


class StopAt(TrainerCallback):
    """Ends training early, as an interruption would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == self.step


class Counting:
    """Scores without a model."""

    def measure(self) -> dict[str, Any]:
        return {"cut": "self", "weights_score": [0.5]}


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_curriculum_chooses_the_rows_of_each_step(new_trainer: Callable[..., Any]) -> None:
    seen, fixed = Batches(), rows(16, 2)
    trainer = new_trainer(
        arguments={"gradient_accumulation_steps": 2, "max_steps": 3},
        strategy=Strategy(WarmUp(steps=1)),
        fixed_dataset=fixed,
    )
    seen.watch(trainer.model)
    trainer.train()
    wanted = CurriculumDataset(Strategy(WarmUp(steps=1)), rows(40, 1), fixed, batch_size=8, seed=42)
    expected = [
        wanted.datasets[row.source][row.index]["input_ids"] for step in range(3) for row in wanted.rows_at(step)
    ]
    assert torch.equal(torch.cat(seen.seen), torch.stack(expected))
    assert {row.source for row in wanted.rows_at(0)} == {"fixed"}


def test_classes_of_the_batch_reach_the_helper_and_not_the_model(new_trainer: Callable[..., Any]) -> None:
    settings = {"strategy": Strategy(ComponentLoss()), "annotation": TokenClasses("kind", 3)}
    with pytest.raises(SpecError, match="remove_unused_columns=False"):
        new_trainer(**settings)
    trainer = new_trainer(arguments={"remove_unused_columns": False}, **settings)
    trainer.train()
    assert int(trainer.helper.calls) == 6


def test_evaluation_has_no_terms_and_model_init_is_followed(
    new_trainer: Callable[..., Any], new_model: NewModel
) -> None:
    helped = new_trainer(strategy=TERMS, annotation=CLASSES, eval_dataset=rows(8, 5))
    plain = new_trainer(Trainer, eval_dataset=rows(8, 5))
    assert helped.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    made = new_trainer(strategy=TERMS, annotation=CLASSES)
    made.model_init = partial(new_model, n_layer=2)
    made.train()
    assert made.helper.decoder.model is made.model
    assert int(made.helper.calls) == 6


def test_the_callback_writes_a_log_that_plateaus_are_read_from(new_trainer: Callable[..., Any], tmp_path: Path) -> None:
    callback = UnplateauCallback(lambda model: TokenScores(model, collate(rows(8, 3)), CLASSES), every=5)
    trainer = new_trainer(Trainer, {"max_steps": 12}, callbacks=[callback])
    trainer.train()
    logged = read(tmp_path / "out")
    assert [row["step"] for row in logged] == list(range(13))
    assert [row["step"] for row in logged if "weights_score" in row] == [0, 5, 10]
    assert [row["loss"] for row in logged[1:]] == losses(trainer)
    assert read_curve(tmp_path / "out" / "metrics.jsonl", step="step", value="loss").values == losses(trainer)
    assert isinstance(callback.plateaus(), list)


def test_what_cannot_work_is_refused(new_trainer: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match="set max_steps in TrainingArguments"):
        new_trainer(arguments={"max_steps": -1}, strategy=Strategy(Mixed()), fixed_dataset=rows(16, 2))
    with pytest.raises(SpecError, match="Mixed: needs a dataset with the fixed mapping: give fixed"):
        new_trainer(strategy=Strategy(Mixed()))
    with pytest.raises(SpecError, match="auto_find_batch_size"):
        new_trainer(arguments={"auto_find_batch_size": True}, strategy=Strategy(Mixed()), fixed_dataset=rows(16, 2))
    with pytest.raises(SpecError, match="annotation: needed"):
        new_trainer(strategy=TERMS)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unplateau.integrations.trainer")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unplateau\[hf\]'"):
        importlib.import_module("unplateau.integrations.trainer")


class Older(Trainer):
    """As before transformers 5: no argument."""

    def create_optimizer(self) -> Any:
        return super().create_optimizer()


class OlderWithStrategy(StrategyMixin, Older):
    pass


def test_a_trainer_whose_create_optimizer_takes_no_argument(new_trainer: Callable[..., Any]) -> None:
    found = []
    for kind in (OlderWithStrategy, StrategyTrainer):
        trainer = new_trainer(kind, strategy=TERMS, annotation=CLASSES)  # seeds the global generator
        trainer.train()
        found.append(losses(trainer))
    assert found[0] == found[1]


def ragged(n_rows: int, seed: int) -> list[dict[str, Tensor]]:
    """Rows of several lengths, padded to ten tokens; a class for some tokens only."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(24, (n_rows, 10), generator=generator)
    lengths = torch.randint(3, 11, (n_rows, 1), generator=generator)
    mask = torch.arange(10) < lengths
    labels = tokens.masked_fill(~mask, -100)
    return [
        dict(zip(("input_ids", "attention_mask", "labels"), one, strict=True))
        for one in zip(tokens, mask.long(), labels, strict=True)
    ]


SOME = {"some": torch.where(torch.arange(24) % 4 == 0, -100, CLASSES), "own": "identity"}
WHOLE = Strategy(ComponentLoss(), WeightsLoss(), MatchLoss(share=1), LookLoss(share=1))


@pytest.mark.parametrize("accepts", [True, False])
def test_terms_do_not_depend_on_how_an_update_is_cut(new_trainer: Callable[..., Any], accepts: bool) -> None:
    """Twelve rows of several lengths in one update: at once, in three micro-batches, or in four."""
    found = []
    for size in (12, 4, 3):
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 12 // size, "max_steps": 1}
        fixed = {"optim": "sgd", "max_grad_norm": 0.0, "train_sampling_strategy": "sequential"}
        model = no_dropout()
        trainer = new_trainer(arguments=settings | fixed, model=model, strategy=WHOLE, annotation=SOME)
        trainer.train_dataset = ragged(12, 4)
        trainer.model_accepts_loss_kwargs = accepts
        trainer.train()
        (row,) = (row for row in trainer.state.log_history if "loss" in row)
        heads = [head.grad.clone() for head in trainer.helper.parameters()]
        found.append((row, heads))
    whole, heads = found[0]
    names = [term.name for term in WHOLE.loss_terms]
    for row, other in found[1:]:
        for name in (*names, *(("loss", "base_loss") if accepts else ())):
            assert row[name] == pytest.approx(whole[name], rel=1e-4), name
        for one, wanted in zip(other, heads, strict=True):
            torch.testing.assert_close(one, wanted, rtol=1e-3, atol=1e-6)
    weights = {term.name: term.weight for term in WHOLE.loss_terms}
    total = whole["base_loss"] + sum(weights[name] * whole[name] for name in names)
    assert whole["loss"] == pytest.approx(total, rel=1e-4)


def no_dropout() -> Any:
    torch.manual_seed(0)
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(vocab_size=24, n_positions=32, n_embd=16, n_head=2, n_layer=2, **none))


def test_an_update_of_fewer_rows_is_no_smaller_part(new_trainer: Callable[..., Any]) -> None:
    """The last update of an epoch has five rows, in micro-batches of four and one."""
    settings = {"gradient_accumulation_steps": 2, "max_steps": 2, "train_sampling_strategy": "sequential"}
    trainer = new_trainer(
        arguments=settings | {"learning_rate": 0.0},
        model=no_dropout(),
        strategy=Strategy(ComponentLoss()),
        annotation=CLASSES,
    )
    data = rows(13, 4)
    trainer.train_dataset = data
    trainer.train()
    logged = [row["component-loss"] for row in trainer.state.log_history if "loss" in row]
    for value, part in zip(logged, (data[:8], data[8:]), strict=True):
        assert value == pytest.approx(float(trainer.helper(collate(part)).detach()), rel=1e-5)


def test_each_term_has_a_key_and_a_column(new_trainer: Callable[..., Any], tmp_path: Path) -> None:
    trainer = new_trainer(
        arguments={"logging_steps": 2, "gradient_accumulation_steps": 2},
        strategy=TERMS,
        annotation=CLASSES,
        callbacks=[UnplateauCallback()],
    )
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert len(logged) == 3
    written = read(tmp_path / "out")
    for row, own in zip(logged, written, strict=True):
        terms = row["component-loss[items=6]"] + 0.5 * row["weights-loss[weight=0.5]"]
        assert row["loss"] == pytest.approx(row["base_loss"] + terms, rel=1e-4)
        assert 0.3 < row["component-loss[items=6]"] < 3
        assert {name: own[name] for name in own} == {name: row[name] for name in own}
        assert {"step", "loss", "base_loss", "learning_rate", "epoch", "component-loss[items=6]"} <= set(own)
    plain = new_trainer(Trainer)
    plain.train()
    assert not any("base_loss" in row for row in plain.state.log_history)


def test_rows_of_several_evaluation_sets_with_all_their_metrics(
    new_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    def accuracy(found: Any) -> dict[str, Any]:
        guesses = found.predictions.argmax(-1)[:, :-1]
        return {"accuracy": float((guesses == found.label_ids[:, 1:]).mean()), "words": "not a number"}

    trainer = new_trainer(
        arguments={"eval_strategy": "steps", "eval_steps": 3},
        eval_dataset={"seen": rows(8, 5), "new": rows(8, 6)},
        compute_metrics=accuracy,
        callbacks=[UnplateauCallback(Counting(), every=2)],
    )
    trainer.train()
    written = [row for row in read(tmp_path / "out") if any(name.startswith("eval") for name in row)]
    assert [row["step"] for row in written] == [3, 3, 6, 6]
    logged = [row for row in trainer.state.log_history if any(name.endswith("_accuracy") for name in row)]
    for row, wanted, name in zip(written, logged, ("seen", "new") * 2, strict=True):
        assert set(row) == {"step", "epoch", f"eval_{name}_loss", f"eval_{name}_accuracy"}
        assert all(row[key] == wanted[key] for key in row)


class Alone(Trainer):
    """A loss of one's own that has no outputs to return."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        return model(**inputs).logits.square().mean()


class Twice(Trainer):
    """A second pass over other tokens, of the same shape, after the one on the batch."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        output = model(**inputs)
        other = model(**{**inputs, "input_ids": inputs["input_ids"].flip(1)})
        loss = output.loss + 0 * other.loss
        return (loss, output) if return_outputs else loss


class Once(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        output = model(**inputs)
        return (output.loss, output) if return_outputs else output.loss


def with_strategy(kind: type) -> type:
    return type(f"With{kind.__name__}", (StrategyMixin, kind), {})


def test_a_loss_that_is_returned_alone(new_trainer: Callable[..., Any]) -> None:
    trainer = new_trainer(with_strategy(Alone), strategy=TERMS, annotation=CLASSES)
    trainer.train()
    assert int(trainer.helper.calls) == 6
    assert all(row["base_loss"] < row["loss"] for row in trainer.state.log_history if "loss" in row)


def test_of_two_passes_the_one_over_the_batch_is_read(new_trainer: Callable[..., Any]) -> None:
    strategy = Strategy(WeightsLoss(), BindLoss(share=1))
    found = []
    for kind in (Once, Twice):
        trainer = new_trainer(
            with_strategy(kind), model=no_dropout(), strategy=strategy, annotation=CLASSES, arguments={"max_steps": 2}
        )
        trainer.train()
        found.append(
            [(row["weights-loss"], row["bind-loss[share=1.0]"]) for row in trainer.state.log_history if "loss" in row]
        )
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_a_compute_loss_that_hides_the_terms_is_refused(new_trainer: Callable[..., Any]) -> None:
    class Hiding(StrategyTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            return model(**inputs).loss

    trainer = new_trainer(Hiding, strategy=TERMS, annotation=CLASSES)
    with pytest.raises(SpecError, match=r"Hiding\.compute_loss hides that of StrategyMixin"):
        trainer.train()


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_trained_by_the_terms(new_trainer: Callable[..., Any], new_model: NewModel) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(new_model(), config)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    trainer = new_trainer(model=model, strategy=TERMS, annotation=CLASSES)
    trainer.train()
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(losses(trainer)) == 6
