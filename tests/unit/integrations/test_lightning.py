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
