"""Loss terms and curricula of one's own, unchanged in our loop, a plain loop, the Trainer and Lightning."""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
pytest.importorskip("lightning", reason="lightning is not installed")
import lightning
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainingArguments

import unplateau as up
from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.integrations.datasets import CurriculumDataset
from unplateau.integrations.lightning import CurriculumDataModule
from unplateau.integrations.tokens import TokenStrategy
from unplateau.integrations.trainer import HEADS, StrategyTrainer
from unplateau.strategies.base import Ask, Curriculum, Host, LossTerm, Mix, Read, V, View
from unplateau.tasks.mixture import Mixture
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model

NewModel = Callable[..., Any]
STEPS, SEED = 12, 3
CLASSES = torch.arange(24) % 3
WITHOUT_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|litlogger|isinstance.treespec).*"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"),
]


def _example() -> ModuleType:
    path = Path(__file__).parents[3] / "examples" / "own_strategy.py"
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    found.loader.exec_module(module)
    return module


EXAMPLE = _example()


class ToldAlone(LossTerm):
    """Reads the weights component with the host's own read-out."""

    weight: float = Field(0.5, ge=0, description="factor")

    @property
    def reads(self) -> tuple[Read, ...]:
        return ("weights",)

    @property
    def asks(self) -> tuple[Ask, ...]:
        return ("hidden",)

    def build_head(self, host: Host) -> nn.Module:
        return host.read_out("hidden")

    def value(self, view: View) -> Tensor:
        seen = view.weights(1, "self", rows=3)
        return view.head.loss(seen.states, seen.classes)


class BareParameters(nn.Module):
    """No layer that an initialisation could know of, and a parameter that is not trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(width))
        self.shift = nn.Parameter(torch.rand(()))
        self.fixed = nn.Parameter(torch.rand(()), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        return states @ self.scale + self.shift + self.fixed


class AnyHead(LossTerm):
    """Wants a read-out of the final state to be 1; as large as that state allows at first."""

    weight: float = Field(0.3, ge=0, description="factor")
    head: Literal["linear", "sequential", "parameters"] = Field("linear", description="which module")

    @property
    def reads(self) -> tuple[Read, ...]:
        return ("final",)

    def build_head(self, host: Host) -> nn.Module:
        if self.head == "linear":
            return nn.Linear(host.width, 1, bias=False)
        if self.head == "parameters":
            return BareParameters(host.width)
        return nn.Sequential(nn.Linear(host.width, 8), nn.Tanh(), nn.Linear(8, 1))

    def value(self, view: View) -> Tensor:
        return (view.head(view.final().states) - 1).square().mean()


class PairsApart(LossTerm):
    """Reads the states of labels, and says so if asked to."""

    weight: float = Field(0.3, ge=0, description="factor")
    says: tuple[Read, ...] = Field(("labels",), description="what it says that it reads")
    calls: Read = Field("labels", description="what it reads")

    @property
    def reads(self) -> tuple[Read, ...]:
        return self.says

    def build_head(self, host: Host) -> nn.Module:
        return nn.Linear(host.width, 8)

    def value(self, view: View) -> Tensor:
        seen = view.labels(1, rows=2) if self.calls == "labels" else view.final()
        return view.head(seen.states).square().mean()


TERMS = up.Strategy(
    EXAMPLE.SmallStates(weight=0.3), ToldAlone(), *(AnyHead(head=one) for one in ("linear", "sequential", "parameters"))
)


@dataclass
class Trained:
    """What a loop leaves: values of each term, heads before and after, weights, and global random numbers."""

    values: dict[str, list[float]]
    before: dict[str, Tensor]
    heads: dict[str, Tensor]
    weights: list[Tensor]
    random: Tensor


def rows() -> list[Tensor]:
    return list(torch.randint(24, (4 * STEPS, 10), generator=torch.Generator().manual_seed(1)))


def kept(module: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in module.state_dict().items() if name != "calls"}


def our_spec(strategy: up.Strategy) -> RunSpec:
    task = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8), n_pairs=4)
    config = up.TrainConfig(steps=STEPS, batch_size=8, lr=1e-2, eval_every=1, checkpoint_every=4, final_prompts=8)
    model = up.ModelConfig(width=16, n_layers=1, n_heads=2)
    spec = up.RunSpec(recipe="own", task=task, model=model, train=config, seed=SEED)
    return spec.with_strategy(strategy)


def in_our_loop(strategy: up.Strategy, new_model: NewModel, out: Path) -> Trained:
    del new_model
    spec, cpu = our_spec(strategy), torch.device("cpu")
    before = kept(build_heads(spec, cpu))
    run = up.train(spec, out=out, device="cpu", observers=())
    (checkpoint,) = sorted((run.path / "checkpoints").glob("*12*/*.safetensors"))
    tensors = load_file(checkpoint)
    heads = {name.removeprefix("heads/"): one for name, one in tensors.items() if name.startswith("heads/")}
    weights = [tensors[f"model/{name}"] for name in build_model(spec, cpu).state_dict()]
    values = {term.name: [row[f"term/{term.name}"] for row in run.history if row["step"]] for term in strategy.parts}
    return Trained(values, before, heads, weights, torch.get_rng_state())


def in_a_plain_loop(strategy: up.Strategy, new_model: NewModel, out: Path) -> Trained:
    del out
    model = new_model(**WITHOUT_DROPOUT)
    with TokenStrategy(model, strategy, CLASSES, seed=SEED) as helper:
        before, values = kept(helper), _Values(strategy)
        optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], lr=1e-2)
        for batch in torch.stack(rows()).split(4):
            (model(input_ids=batch, labels=batch).loss + helper(batch)).backward()
            optimiser.step()
            optimiser.zero_grad()
            values.take(helper)
    return Trained(values.found, before, kept(helper), [*model.parameters()], torch.get_rng_state())


def new_trainer(strategy: up.Strategy, new_model: NewModel, out: Path, **settings: Any) -> Any:
    fixed = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "learning_rate": 1e-2, "seed": SEED}
    arguments = TrainingArguments(
        str(out), per_device_train_batch_size=4, max_steps=settings.pop("max_steps", STEPS), save_steps=6, **fixed
    )
    given = {"model": new_model(**WITHOUT_DROPOUT), "args": arguments} | settings
    given.setdefault("train_dataset", [{"input_ids": row, "labels": row} for row in rows()])
    return StrategyTrainer(strategy=strategy, annotation=CLASSES, **given)


def in_the_trainer(strategy: up.Strategy, new_model: NewModel, out: Path) -> Trained:
    trainer, values = new_trainer(strategy, new_model, out), _Values(strategy)
    before = kept(trainer.helper)

    class Take(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            values.take(trainer.helper)

    trainer.add_callback(Take())
    trainer.train()
    return Trained(values.found, before, kept(trainer.helper), [*trainer.model.parameters()], torch.get_rng_state())


class Module(lightning.LightningModule):
    """A language model with a helper."""

    def __init__(self, model: Any, strategy: up.Strategy) -> None:
        super().__init__()
        self.model, self.helper = model, TokenStrategy(model, strategy, CLASSES, seed=SEED)
        self.taken = _Values(strategy)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.model(input_ids=batch, labels=batch).loss + self.helper(batch)
        self.taken.take(self.helper)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW([one for one in self.parameters() if one.requires_grad], lr=1e-2)


def fit(module: Module, data: Any, out: Path, *, steps: int = STEPS, resume: Path | None = None) -> Any:
    off = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=steps, default_root_dir=out, enable_checkpointing=False, **off)
    trainer.fit(module, data, ckpt_path=resume)
    return trainer


def in_lightning(strategy: up.Strategy, new_model: NewModel, out: Path) -> Trained:
    module = Module(new_model(**WITHOUT_DROPOUT), strategy)
    before = kept(module.helper)
    fit(module, DataLoader(rows(), 4), out)  # type: ignore[arg-type]
    return Trained(module.taken.found, before, kept(module.helper), [*module.model.parameters()], torch.get_rng_state())


class _Values:
    def __init__(self, strategy: up.Strategy) -> None:
        self.found: dict[str, list[float]] = {term.name: [] for term in strategy.parts}

    def take(self, helper: TokenStrategy) -> None:
        for name, value in helper.last.items():
            self.found[name].append(float(value))


LOOPS = (in_our_loop, in_a_plain_loop, in_the_trainer, in_lightning)


@pytest.mark.parametrize("loop", LOOPS)
def test_terms_of_ones_own_train_in_every_loop(
    loop: Callable[[up.Strategy, NewModel, Path], Trained], new_model: NewModel, tmp_path: Path
) -> None:
    def trained(strategy: up.Strategy, out: str) -> Trained:
        torch.manual_seed(5)
        return loop(strategy, new_model, tmp_path / out)

    first, again = trained(TERMS, "first"), trained(TERMS, "again")
    assert all(len(values) == STEPS for values in first.values.values())
    assert all(values[-1] < values[0] for values in first.values.values())
    trainable = [name for name in first.before if not name.endswith("fixed")]
    assert len(trainable) >= 9
    assert all(not torch.equal(first.before[name], first.heads[name]) for name in trainable)
    assert first.before.keys() == again.before.keys()
    assert all(torch.equal(first.before[name], again.before[name]) for name in first.before)
    assert all(torch.equal(first.heads[name], again.heads[name]) for name in first.heads)
    plain = trained(up.Strategy(), "plain")
    assert torch.equal(plain.random, first.random)
    assert any(not torch.equal(a, b) for a, b in zip(plain.weights, first.weights, strict=True))


@pytest.mark.parametrize("term", TERMS.parts, ids=lambda term: term.name)
def test_gradients_of_each_term_reach_the_model(term: LossTerm, new_model: NewModel) -> None:
    model = new_model()
    helper = TokenStrategy(model, up.Strategy(term), CLASSES, seed=1)
    batch = torch.stack(rows()[:4])
    model(input_ids=batch)
    state = torch.get_rng_state()
    helper(batch).backward()
    assert torch.equal(state, torch.get_rng_state())
    assert float(model.transformer.wte.weight.grad.norm()) > 0
    assert all(float(one.grad.norm()) > 0 for one in helper.parameters() if one.requires_grad)


@pytest.mark.parametrize("term", TERMS.parts, ids=lambda term: term.name)
def test_any_head_works_in_half_precision(term: LossTerm, new_model: NewModel) -> None:
    model = new_model().bfloat16()
    helper = TokenStrategy(model, up.Strategy(term), CLASSES)
    batch = torch.stack(rows()[:4])
    for _ in range(2):
        model(input_ids=batch)
        assert helper(batch).isfinite()
        helper.bfloat16()  # as a trainer does that casts the whole module


def test_a_term_without_questions_needs_no_annotation(new_model: NewModel) -> None:
    model = new_model().eval()
    helper = TokenStrategy(model, up.Strategy(EXAMPLE.SmallStates()))
    batch = {"input_ids": torch.stack(rows()[:4]), "attention_mask": torch.ones(4, 10)}
    batch["attention_mask"][:, 5:] = 0
    model(**batch)
    value = helper.values(batch)["small-states"]
    states = model.transformer(**batch).last_hidden_state
    (head,) = helper.heads.values()
    torch.testing.assert_close(value, head(states[:, :5]).square().mean())
    with pytest.raises(SpecError, match="annotation: needed by a loss term"):
        TokenStrategy(new_model(), up.Strategy(ToldAlone()))


def test_states_of_labels_are_shown_in_every_loop_to_a_term_that_says_so(new_model: NewModel, tmp_path: Path) -> None:
    model, batch = new_model(), torch.stack(rows()[:4])
    with TokenStrategy(model, up.Strategy(PairsApart())) as helper:
        model(input_ids=batch)
        assert helper.values(batch)["pairs-apart"].item() > 0
    trainer = new_trainer(up.Strategy(PairsApart()), new_model, tmp_path)
    trainer.train()
    assert float(trainer.helper.last["pairs-apart"]) > 0
    for calls in ("labels", "final"):
        hidden = TokenStrategy(new_model(), up.Strategy(PairsApart(says=(), calls=calls)))
        with pytest.raises(SpecError, match=f"PairsApart: reads '{calls}': say so in its reads"):
            hidden(batch)
    run = up.train(our_spec(up.Strategy(PairsApart())), out=tmp_path, device="cpu", observers=())
    assert run.history.last("term/pairs-apart") > 0


class Says(LossTerm):
    """Reads what it is told to, and declares what it is told to."""

    weight: float = 1.0
    says: tuple[Any, ...] = ()
    asked: tuple[Any, ...] = ()
    calls: str = "final"
    ask: Any = "hidden"
    layer: int = 1

    @property
    def reads(self) -> tuple[Any, ...]:
        return self.says

    @property
    def asks(self) -> tuple[Any, ...]:
        return self.asked

    def build_head(self, host: Host) -> nn.Module:
        return nn.Linear(host.width, 1)

    def value(self, view: View) -> Tensor:
        seen = view.final(self.ask) if self.calls == "final" else view.weights(self.layer, "self", self.ask)
        return view.head(seen.states).mean()


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Says(), "Says: reads 'final': say so in its reads"),
        (Says(says=("final",), calls="weights"), "Says: reads 'weights': say so in its reads"),
        (Says(says=("final",), ask="all"), "Says: asks for 'all': say so in its asks"),
        (Says(says=("weights",), calls="weights", layer=9), "Says: layer 9 is beyond the model's . layers"),
        (Says(says=("weights",), calls="weights", layer=-1), "Says: layer -1 is beyond the model's . layers"),
    ],
)
def test_what_is_not_declared_or_not_there_is_refused_alike(
    term: LossTerm, message: str, new_model: NewModel, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        up.train(our_spec(up.Strategy(term)), out=tmp_path, device="cpu", observers=())
    model, batch = new_model(), torch.stack(rows()[:4])
    helper = TokenStrategy(model, up.Strategy(term), CLASSES)
    model(input_ids=batch)
    with pytest.raises(SpecError, match=message):
        helper(batch)


def test_the_trainer_saves_heads_of_any_module_and_takes_them_up(new_model: NewModel, tmp_path: Path) -> None:
    whole = new_trainer(TERMS, new_model, tmp_path)
    whole.train()
    checkpoint = tmp_path / "checkpoint-6"
    saved = load_file(checkpoint / HEADS)
    assert saved.keys() == whole.helper.state_dict().keys()
    assert int(saved["calls"]) == 6
    resumed = new_trainer(TERMS, new_model, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    ends = (one.helper.state_dict() for one in (whole, resumed))
    assert all(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends), strict=True))


def test_lightning_saves_heads_of_any_module_and_takes_them_up(new_model: NewModel, tmp_path: Path) -> None:
    def run(steps: int, resume: Path | None = None) -> tuple[Module, Any]:
        module = Module(new_model(**WITHOUT_DROPOUT), TERMS)
        data = CurriculumDataModule(TERMS, rows(), batch_size=4)
        return module, fit(module, data, tmp_path, steps=steps, resume=resume)

    whole, _ = run(6)
    _, first = run(3)
    first.save_checkpoint(tmp_path / "three.ckpt")
    resumed, _ = run(6, tmp_path / "three.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_curriculum_of_ones_own_in_every_loop(new_model: NewModel, tmp_path: Path) -> None:
    strategy = up.Strategy(EXAMPLE.Anneal(steps=4), EXAMPLE.SmallStates())
    task = our_spec(strategy).task
    chosen = [strategy.choose(step, task, History(), Mixture.of) for step in range(5)]
    assert [one.shares[0] for one in chosen[:4] if isinstance(one, Mixture)] == [0.8, 0.6, 0.4, 0.2]
    assert chosen[4] == task
    assert up.train(our_spec(strategy), out=tmp_path, device="cpu", observers=()).history.last("step") == STEPS
    target, fixed = ([{"input_ids": row + n, "labels": row} for row in rows()] for n in (0, 100))
    data = CurriculumDataset(strategy, target, fixed, batch_size=4)
    shares = [data.shares_at(step)["fixed"] for step in range(5)]
    assert shares == [3, 2, 1, 1, 0]
    seen: list[int] = []

    def count(model: Any, args: Any, given: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        seen.append(int((given["input_ids"] >= 100).any(1).sum()))
        return args, {**given, "input_ids": given["input_ids"] % 100}

    sets = {"train_dataset": target, "fixed_dataset": fixed}
    trainer = new_trainer(up.Strategy(EXAMPLE.Anneal(steps=4)), new_model, tmp_path, max_steps=5, **sets)
    trainer.model.register_forward_pre_hook(count, with_kwargs=True)
    trainer.train()
    assert seen == shares


class Half(Curriculum):
    """Shares that are none: three quarters of the rows, or no rows at all."""

    shares: tuple[float, ...] = (0.5, 0.25)

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        return [(share, target.fixed()) for share in self.shares]


@pytest.mark.parametrize("shares", [(0.5, 0.25), (1.5, -0.5), (0.5,), ()])
def test_shares_that_are_none_are_refused_in_every_loop(shares: tuple[float, ...], tmp_path: Path) -> None:
    refused = re.escape(f"Half: shares must be at least 0 and sum to 1, got {shares} at step 0")
    with pytest.raises(SpecError, match=refused):
        CurriculumDataset(up.Strategy(Half(shares=shares)), rows(), rows(), batch_size=4)
    with pytest.raises(SpecError, match=refused):
        up.train(our_spec(up.Strategy(Half(shares=shares))), out=tmp_path, device="cpu", observers=())


class Values(AnyHead):
    """Named as a method that every mapping of modules has."""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_term_may_be_named_as_a_method_of_modules(
    loop: Callable[[up.Strategy, NewModel, Path], Trained], new_model: NewModel, tmp_path: Path
) -> None:
    found = loop(up.Strategy(Values()), new_model, tmp_path)
    assert len(found.values["values"]) == STEPS
    assert [name.removeprefix("heads.") for name in found.heads] == ["values[].weight"]
