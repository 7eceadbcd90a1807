"""Lightning with terms, scores and curricula: absent bit for bit, exact to resume."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

pytest.importorskip("lightning", reason="lightning is not installed")
import lightning

from unplateau.errors import MissingExtraError, SpecError
from unplateau.integrations.datasets import CurriculumDataset
from unplateau.integrations.lightning import CurriculumDataModule, UnplateauCallback
from unplateau.integrations.scores import TokenScores
from unplateau.integrations.tokens import TokenStrategy
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy

NewModel = Callable[..., Any]
CLASSES = torch.arange(24) % 3
TERMS = Strategy(ComponentLoss(items=6), WeightsLoss(weight=0.5))
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|litlogger|isinstance.treespec).*"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"),
]


def rows(n_rows: int, seed: int) -> list[Tensor]:
    return list(torch.randint(24, (n_rows, 10), generator=torch.Generator().manual_seed(seed)))


class Module(lightning.LightningModule):
    """A language model with a helper."""

    def __init__(self, model: Any, strategy: Strategy | None, **places: Any) -> None:
        super().__init__()
        self.model = model
        if strategy is not None:
            self.helper = TokenStrategy(model, strategy, None if places else CLASSES, **places)
        self.losses: list[float] = []
        self.seen: list[Tensor] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = self.model(input_ids=batch, labels=batch).loss
        self.losses.append(loss.item())
        self.seen.append(batch)
        return loss if not hasattr(self, "helper") else loss + self.helper(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def fit(module: Module, data: Any, out: Path, steps: int = 6, resume: Path | None = None, **settings: Any) -> Any:
    torch.manual_seed(11)
    off = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings.setdefault("enable_checkpointing", False)
    trainer = lightning.Trainer(max_steps=steps, default_root_dir=out, **off, **settings)
    trainer.fit(module, data, ckpt_path=resume)
    return trainer


def loader() -> DataLoader[Any]:
    return DataLoader(rows(40, 1), 4, shuffle=True, generator=torch.Generator().manual_seed(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", [Strategy(), Strategy(ComponentLoss(weight=0))])
def test_without_terms_it_is_the_plain_module(new_model: NewModel, tmp_path: Path, strategy: Strategy) -> None:
    plain, helped = Module(new_model(), None), Module(new_model(), strategy)
    fit(plain, loader(), tmp_path)
    scores = UnplateauCallback(
        lambda module: TokenScores(module.model, torch.stack(rows(8, 3)), CLASSES), every=2, log_every=1
    )
    fit(helped, loader(), tmp_path, callbacks=[scores])
    assert plain.losses == helped.losses
    assert len(plain.losses) == 6
    pairs = zip(plain.model.parameters(), helped.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_heads_are_trained_and_saved_with_the_module_and_the_model_only_once(
    new_model: NewModel, tmp_path: Path
) -> None:
    module = Module(new_model(), TERMS)
    heads = {name: one.clone() for name, one in module.helper.state_dict().items()}
    trainer = fit(module, loader(), tmp_path)
    assert all(not torch.equal(heads[name], one) for name, one in module.helper.state_dict().items())
    assert len({id(one) for one in module.parameters()}) == len([*module.parameters()])
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)["state_dict"]
    assert int(saved["helper.calls"]) == 6
    assert not any(name.startswith("helper.") and "wte" in name for name in saved)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("strategy", "places"),
    [
        (Strategy(WarmUp(steps=4), Mixed(fraction=0.3), ComponentLoss(items=6)), {}),
        (
            Strategy(WarmUp(steps=4), MatchLoss(share=1), BindLoss(), LookLoss(until=2)),
            {"items": slice(0, None, 2), "labels": slice(1, None, 2)},
        ),
    ],
    ids=["tokens", "prompts"],
)
def test_resuming_is_exact(
    new_model: NewModel, tmp_path: Path, strategy: Strategy, places: dict[str, Any], accumulate: int
) -> None:
    def run(out: str, steps: int, resume: Path | None = None) -> tuple[Module, Any]:
        module = Module(new_model(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0), strategy, **places)
        data = CurriculumDataModule(strategy, rows(40, 1), rows(16, 2), batch_size=4)
        watch = UnplateauCallback(log_every=1)
        return module, fit(
            module, data, tmp_path / out, steps, resume, accumulate_grad_batches=accumulate, callbacks=[watch]
        )

    whole, _ = run("whole", 6)
    _, first = run("torn", 3)
    first.save_checkpoint(tmp_path / "three.ckpt")
    log = tmp_path / "torn" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step":4,"loss":1.0}\n')  # of a future that did not happen
    resumed, _ = run("torn", 6, tmp_path / "three.ckpt")
    assert resumed.losses == whole.losses[3 * accumulate :]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    wanted = CurriculumDataset(strategy, rows(40, 1), rows(16, 2), batch_size=4 * accumulate)
    expected = [wanted.datasets[row.source][row.index] for step in range(6) for row in wanted.rows_at(step)]
    assert torch.equal(torch.cat(whole.seen), torch.stack(expected))
    logs = [(tmp_path / out / "metrics.jsonl").read_text() for out in ("whole", "torn")]
    assert logs[0] == logs[1]


def test_the_callback_writes_rows_and_looks(new_model: NewModel, tmp_path: Path) -> None:
    module = Module(new_model(), TERMS)
    callback = UnplateauCallback(
        lambda module: TokenScores(module.model, torch.stack(rows(8, 3)), CLASSES), every=4, log_every=2
    )
    fit(module, loader(), tmp_path, steps=8, callbacks=[callback])
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == [0, 2, 4, 6, 8]
    assert [row["step"] for row in logged if "weights_score" in row] == [0, 4, 8]
    assert logged[1]["loss"] > module.losses[1]  # as training_step returned it: with the terms
    assert callback.plateaus() == []


def test_missing_data_is_refused_when_the_stream_is_made() -> None:
    with pytest.raises(SpecError, match="Mixed: needs a dataset with the fixed mapping"):
        CurriculumDataModule(Strategy(Mixed()), rows(40, 1), batch_size=4).train_dataloader()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unplateau.integrations.lightning")
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unplateau\[lightning\]'"):
        importlib.import_module("unplateau.integrations.lightning")


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Returned(Module):
    """Keeps what ``training_step`` returns."""

    def __init__(self, model: Any, strategy: Strategy | None = None) -> None:
        super().__init__(model, strategy)
        self.returned: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.returned.append(float(loss.detach()))
        return {"loss": loss} if batch_idx % 2 else loss


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_the_loss_of_a_row_is_the_one_that_was_returned(new_model: NewModel, tmp_path: Path, accumulate: int) -> None:
    module = Returned(new_model(), TERMS)
    fit(module, loader(), tmp_path, 4, accumulate_grad_batches=accumulate, callbacks=[UnplateauCallback(log_every=1)])
    rows_written = logged(tmp_path)
    assert [row["step"] for row in rows_written] == [1, 2, 3, 4]
    last = [module.returned[number] for number in _last_of_each(accumulate)]
    assert [row["loss"] for row in rows_written] == pytest.approx(last, rel=1e-6)
    assert all({"component-loss[items=6]", "weights-loss[weight=0.5]"} <= set(row) for row in rows_written)


def _last_of_each(accumulate: int) -> list[int]:
    """Micro-batches after which there is an update: at the end of an epoch of ten, too."""
    return [number for number in range(40) if (number % 10 + 1) % accumulate == 0 or number % 10 == 9][:4]


class Manual(Module):
    """Two optimisers, or one, in the order and number of steps that its owner chooses."""

    def __init__(
        self, model: Any, n_optimisers: int, every: int = 1, returns: bool = False, direct: bool = False
    ) -> None:
        super().__init__(model, None)
        self.automatic_optimization = False
        self.n_optimisers, self.every, self.returns, self.direct = n_optimisers, every, returns, direct
        self.given: list[list[float]] = []

    def configure_optimizers(self) -> Any:
        halves = [[*self.model.parameters()][number :: self.n_optimisers] for number in range(self.n_optimisers)]
        return [torch.optim.SGD(half, lr=1e-2) for half in halves]

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        self.given.append([])
        for number, optimiser in enumerate(optimisers):
            loss = self.model(input_ids=batch, labels=batch).loss * (number + 1)
            self.given[-1].append(float(loss.detach()))
            loss.backward() if self.direct else self.manual_backward(loss)
            if (batch_idx + 1) % self.every == 0:
                optimiser.step()
                optimiser.zero_grad()
        return loss if self.returns else None


def fit_manually(module: Manual, out: Path, batches: int = 8, **settings: Any) -> Any:
    settings.setdefault("callbacks", [UnplateauCallback(log_every=1)])
    return fit(module, loader(), out, -1, limit_train_batches=batches, max_epochs=1, **settings)


def test_two_optimisers_make_one_update_in_a_batch(new_model: NewModel, tmp_path: Path) -> None:
    module = Manual(new_model(), 2)
    fit_manually(module, tmp_path)
    written = logged(tmp_path)
    assert [row["step"] for row in written] == [*range(1, 9)]
    for row, own in zip(written, module.given, strict=True):
        assert [row["loss"], row["loss/1"], row["loss/2"]] == pytest.approx([sum(own), *own])


@pytest.mark.parametrize(("n_optimisers", "steps"), [(1, [1, 2, 3, 4]), (2, [1, 2, 3, 4])])
def test_an_update_of_several_batches_is_their_sum(
    new_model: NewModel, tmp_path: Path, n_optimisers: int, steps: list[int]
) -> None:
    module = Manual(new_model(), n_optimisers, every=2)
    fit_manually(module, tmp_path)
    written = logged(tmp_path)
    assert [row["step"] for row in written] == steps
    wanted = [sum(module.given[number]) + sum(module.given[number + 1]) for number in range(0, 8, 2)]
    assert [row["loss"] for row in written] == pytest.approx(wanted)


def test_a_loss_that_manual_optimisation_returns_is_written_as_it_is(new_model: NewModel, tmp_path: Path) -> None:
    module = Manual(new_model(), 1, returns=True)
    fit_manually(module, tmp_path)
    assert [row["loss"] for row in logged(tmp_path)] == pytest.approx([own[0] for own in module.given])


def test_no_loss_at_all_is_said_once(new_model: NewModel, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit_manually(Manual(new_model(), 1, direct=True), tmp_path)
    assert [row["loss"] for row in logged(tmp_path)] == [None] * 8
    assert sum("no loss to record at step 1" in record.getMessage() for record in caplog.records) == 1


def test_updates_of_two_optimisers_are_counted_on_after_a_stop(new_model: NewModel, tmp_path: Path) -> None:
    whole = Manual(new_model(**NO_DROPOUT), 2)
    fit_manually(whole, tmp_path / "whole")
    trainer = fit_manually(Manual(new_model(**NO_DROPOUT), 2), tmp_path / "torn", 4)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    resumed = Manual(new_model(**NO_DROPOUT), 2)
    callback = UnplateauCallback(log_every=1)
    fit(
        resumed,
        DataLoader(rows(40, 1), 4),
        tmp_path / "torn",
        -1,
        tmp_path / "four.ckpt",
        limit_train_batches=4,
        max_epochs=2,
        callbacks=[callback],
    )
    assert [row["step"] for row in logged(tmp_path / "torn")] == [*range(1, 9)]


def test_the_stream_goes_on_at_the_right_update_with_two_optimisers(new_model: NewModel, tmp_path: Path) -> None:
    strategy = Strategy(WarmUp(steps=2))
    data = CurriculumDataModule(strategy, rows(40, 1), rows(16, 2), batch_size=4)
    first = Manual(new_model(), 2)
    trainer = fit(first, data, tmp_path, -1, limit_train_batches=3, max_epochs=1)
    assert trainer.global_step == 6
    data.trainer = trainer
    stream = data.train_dataloader().dataset
    assert stream.start == 3  # type: ignore[attr-defined]


NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
