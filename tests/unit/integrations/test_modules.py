"""Loss terms on prompts of any module: what they read, that they change nothing, and what is refused."""

import copy
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2Model

import unplateau as up
from forked import Python
from unplateau.decompose import predict
from unplateau.errors import SpecError
from unplateau.integrations.attention import AttentionCapture, read
from unplateau.integrations.modules import PromptStrategy
from unplateau.strategies.base import LossTerm
from unplateau.strategies.prompt_losses import BindLoss, KeepLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
from unplateau.train.given import Given
from unplateau.train.host import BatchView

ITEMS, LABELS = slice(0, None, 2), slice(1, None, 2)
K, WIDTH, HEADS = 6, 16, 2
ALL = Strategy(MatchLoss(share=0.6), BindLoss(share=0.6), LookLoss(share=0.6))


class Regression(nn.Module):
    """In-context regression: a GPT-2 backbone on vectors x_1 y_1 x_2 y_2 ..., numbers in the first coordinate."""

    def __init__(self, attention: str = "sdpa", dropout: float = 0.0) -> None:
        super().__init__()
        drop = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        sizes = {"n_positions": 64, "n_embd": WIDTH, "n_layer": 3, "n_head": HEADS, "attn_implementation": attention}
        self.read_in = nn.Linear(4, WIDTH)
        self.backbone = GPT2Model(GPT2Config(vocab_size=1, **drop, **sizes))
        self.read_out = nn.Linear(WIDTH, 1)

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        wide = functional.pad(ys[..., None], (0, 3))
        prompt = torch.stack((xs, wide), 2).flatten(1, 2)
        return self.read_out(self.backbone(inputs_embeds=self.read_in(prompt)).last_hidden_state)[:, ::2, 0]


class Block(nn.Module):
    """A block as many write it by hand: attention spelt out, pre-norm; ``as_tuple``: it returns more than its state."""

    def __init__(self, *, as_tuple: bool = False, causal: bool = True) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.both, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.as_tuple, self.causal = as_tuple, causal

    def shares(self, x: Tensor) -> Tensor:
        query, key = self.both(self.before(x)).chunk(3, 2)[:2]
        query, key = (one.unflatten(2, (HEADS, -1)).transpose(1, 2) for one in (query, key))
        scores = query @ key.mT / (WIDTH / HEADS) ** 0.5
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores[0, 0]).triu(1).bool(), float("-inf"))
        return scores.softmax(-1)

    def forward(self, x: Tensor) -> Any:
        value = self.both(self.before(x)).chunk(3, 2)[2].unflatten(2, (HEADS, -1)).transpose(1, 2)
        x = x + self.out((self.shares(x) @ value).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.after(x))
        return (x, None) if self.as_tuple else x


class FewShot(nn.Module):
    """Few-shot classification: items and labels have positions of their own; blocks are what is given."""

    def __init__(self, blocks: Callable[[], nn.Module], *, checkpointed: bool | None = None) -> None:
        super().__init__()
        self.item, self.label = nn.Linear(4, WIDTH), nn.Embedding(3, WIDTH)
        self.position = nn.Parameter(torch.randn(64, WIDTH) * 0.3)
        self.blocks = nn.ModuleList(blocks() for _ in range(3))
        self.head = nn.Linear(WIDTH, 3)
        self.reentrant = checkpointed

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        labels = functional.pad(self.label(ys), (0, 0, 0, xs.shape[1] - ys.shape[1]))
        x = torch.stack((self.item(xs), labels), 2).flatten(1, 2)[:, : xs.shape[1] + ys.shape[1]]
        x = x + self.position[: x.shape[1]]
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
            x = x[0] if isinstance(x, tuple) else x
        return self.head(x)[:, ::2]


class Encoder(nn.Module):
    """The same on ``nn.TransformerEncoder`` with a causal mask."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.item, self.label = nn.Linear(4, WIDTH), nn.Embedding(3, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=batch_first)
        self.batch_first = batch_first

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        x = torch.stack((self.item(xs), self.label(ys)), 2).flatten(1, 2)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        if self.batch_first:
            return self.encoder(x, mask=mask)
        return self.encoder(x.transpose(0, 1), mask=mask).transpose(0, 1)


def numbers(n_rows: int = 8, n_pairs: int = K) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    xs = torch.randn(n_rows, n_pairs, 4, generator=generator)
    return xs, (xs @ torch.randn(n_rows, 4, 1, generator=generator))[..., 0]


def classes(n_rows: int = 8, n_pairs: int = K) -> tuple[Tensor, Tensor]:
    xs, _ = numbers(n_rows, n_pairs)
    return xs, torch.randint(3, (n_rows, n_pairs), generator=torch.Generator().manual_seed(1))


CASES: dict[str, tuple[Callable[[], nn.Module], str, Callable[[], tuple[Tensor, Tensor]], dict[str, Any]]] = {
    "gpt2": (Regression, "backbone.h", numbers, {}),
    "gpt2, holder named": (Regression, "backbone", numbers, {}),
    "gpt2, eager": (lambda: Regression("eager"), "backbone.h", numbers, {}),
    "gpt2, dropout": (lambda: Regression(dropout=0.1), "backbone.h", numbers, {}),
    "by hand": (lambda: FewShot(Block), "blocks", classes, {}),
    "tuples": (lambda: FewShot(lambda: Block(as_tuple=True)), "blocks", classes, {}),
    "encoder": (Encoder, "encoder.layers", classes, {}),
    "positions first": (lambda: Encoder(batch_first=False), "encoder.layers", classes, {"batch_first": False}),
    "checkpointed": (lambda: FewShot(Block, checkpointed=False), "blocks", classes, {}),
}
each = pytest.mark.parametrize(("new", "blocks", "batch", "more"), CASES.values(), ids=CASES)


def helped(model: nn.Module, blocks: Any, strategy: Strategy | str = ALL, **more: Any) -> PromptStrategy:
    return PromptStrategy(model, strategy, **({"blocks": blocks, "items": ITEMS, "labels": LABELS} | more))


def made(new: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return new()


def trained(model: nn.Module, batch: tuple[Tensor, Tensor], helper: Any, steps: int = 3) -> list[Tensor]:
    torch.manual_seed(5)
    optimiser = torch.optim.Adam([*model.parameters(), *(helper.parameters() if helper else ())], lr=1e-2)
    for _ in range(steps):
        loss = model(*batch).float().square().mean()
        (loss if helper is None else loss + helper(*batch)).backward()
        optimiser.step()
        optimiser.zero_grad()
    return [loss.detach(), *(one.detach().clone() for one in model.parameters())]


def hooks(model: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())


@each
def test_terms_fall_and_the_rest_is_left_alone(new: Any, blocks: str, batch: Any, more: dict[str, Any]) -> None:
    model, given = made(new), batch()
    helper = helped(model, blocks, **more)
    own = [*model.parameters(), *helper.parameters()]
    optimiser, first = torch.optim.Adam(own, lr=1e-2), {}
    for step in range(30):
        model(*given)
        state = torch.get_rng_state()
        loss = helper(*given)
        loss.backward()
        assert torch.equal(state, torch.get_rng_state())
        assert all(module.training for module in model.modules())
        if step == 0:
            first = helper.last
            parts = dict(model.named_parameters())
            reached = [name for name, one in parts.items() if one.grad is not None and one.grad.abs().sum() > 0]
            assert any(".0." in name for name in reached)
            assert all(one.grad is not None for one in helper.parameters())
        optimiser.step()
        optimiser.zero_grad()
    assert list(first) == [term.name for term in ALL.parts]
    assert all(float(helper.last[name]) < float(first[name]) for name in first)


@each
def test_hooks_change_neither_outputs_nor_random_numbers(new: Any, blocks: str, batch: Any, more: Any) -> None:
    plain, watched = made(new), made(new)
    helper = helped(watched, blocks, **more)
    for training in (True, False):
        outputs = []
        for model in (plain.train(training), watched.train(training)):
            torch.manual_seed(3)
            outputs.append((model(*batch()), torch.get_rng_state()))
        assert torch.equal(outputs[0][0], outputs[1][0])
        assert torch.equal(outputs[0][1], outputs[1][1])
        helper(*batch())  # the next pass keeps attention as well
    with torch.no_grad():
        assert torch.equal(plain(*batch()), watched(*batch()))
    helper.close()
    assert hooks(watched) == hooks(plain)


@pytest.mark.parametrize("strategy", [Strategy(), Strategy(MatchLoss(weight=0), LookLoss(weight=0))])
@each
def test_without_terms_training_is_the_same_bit_for_bit(
    new: Any, blocks: str, batch: Any, more: Any, strategy: Strategy
) -> None:
    model, plain = made(new), made(new)
    helper = helped(model, blocks, strategy, **more)
    assert hooks(model) == hooks(plain)
    assert not list(helper.parameters())
    assert helper(*batch()) == 0.0
    one, other = trained(model, batch(), helper), trained(plain, batch(), None)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert any(
        not torch.equal(a, b)
        for a, b in zip(trained(made(new), batch(), None), trained_with(new, blocks, batch, more), strict=True)
    )


def trained_with(new: Any, blocks: str, batch: Any, more: Any) -> list[Tensor]:
    model = made(new)
    return trained(model, batch(), helped(model, blocks, **more))


class Foreign(nn.Module):
    """Our own Transformer, as a module of which nothing is known."""

    def __init__(self, task: up.FactorTask) -> None:
        super().__init__()
        self.inside = up.ModelConfig(n_layers=3, width=WIDTH, n_heads=HEADS).build(task.shape, seed=0)
        with torch.no_grad():
            self.inside.position_embedding.weight.zero_()  # this host shows every item at the first position
        self.layout = task.shape.layout

    def forward(self, items: Tensor, labels: Tensor) -> Tensor:
        x = self.inside.embed(up.tensors.Prompts(items, labels, self.layout))
        for block in self.inside.blocks:
            x = block(x, "causal")
        return x


@pytest.mark.parametrize(
    "term", [*ALL.parts, MatchLoss(depth=1.0, share=1), LookLoss(depth=0.1)], ids=lambda one: one.name
)
def test_values_are_those_of_our_own_loop(term: LossTerm) -> None:
    task = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8), n_pairs=K)
    batch, model = task.sample(0, batch_size=8), Foreign(task)
    helper = helped(model, "inside.blocks", Strategy(term))
    for _ in range(2):  # attention comes from a pass of its own first, then from that of the loop
        model(batch.inputs.items, batch.inputs.labels)
        value = helper.values(batch.inputs.items, batch.inputs.labels)[term.name]
        (head,) = helper._head_of.values()
        view = BatchView(
            term, model.inside, task, batch, predict(model.inside, batch.inputs), Given(0, torch.device("cpu")), 0, head
        )
        torch.testing.assert_close(value, term.value(view), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_that_of_the_model(attention: str) -> None:
    model = made(lambda: Regression(attention))
    helper = helped(model, "backbone.h", Strategy(LookLoss(share=0.3, depth=0.1)))
    model(*numbers())
    helper(*numbers())
    model(*numbers())
    done = helper.recorder._newest[-1]
    found = helper.recorder.attention(done, 2, 3, lambda: None)
    model.backbone.set_attn_implementation("eager")
    xs, ys = numbers()
    prompt = torch.stack((xs, functional.pad(ys[..., None], (0, 3))), 2).flatten(1, 2)
    wanted = model.backbone(inputs_embeds=model.read_in(prompt), output_attentions=True).attentions[1][:3]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("padded", [None, "mask"])
def test_attention_of_multi_head_modules_is_theirs(batch_first: bool, padded: str | None) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
    x = torch.randn(4, 7, WIDTH) if batch_first else torch.randn(7, 4, WIDTH)
    padding = torch.zeros(4, 7, dtype=torch.bool)
    padding[1, 5:] = padded is not None
    mask = torch.ones(7, 7).triu(1).bool()
    with AttentionCapture() as capture:
        _, wanted = module(x, x, x, attn_mask=mask, key_padding_mask=padding, average_attn_weights=False)
        module(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)
    assert len(capture.found) == 2
    for found in capture.found:
        torch.testing.assert_close(read([found], 4, 7, 3), wanted[:3])


def test_a_call_of_attention_is_read_with_its_mask_groups_and_scale() -> None:
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    mask = torch.rand(2, 1, 5, 5) > 0.3
    mask[:, :, :, 0] = True
    for given in (mask, torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))):
        with AttentionCapture() as capture:
            out = functional.scaled_dot_product_attention(query, key, key, given, scale=0.7, enable_gqa=True)
        shares = read(capture.found, 2, 5, 2)
        assert shares is not None
        torch.testing.assert_close(shares @ key.repeat_interleave(2, 1), out)


def test_padding_by_a_mask_of_the_batch() -> None:
    """Prompts with fewer pairs give what they would give without padding."""
    xs, ys = classes(6)
    model = made(lambda: FewShot(Block))
    items = torch.zeros(6, 2 * K, dtype=torch.bool)
    items[:, ::2] = True
    items[3:, 8:] = False

    def labels(xs: Tensor, ys: Tensor) -> Tensor:
        return items.roll(1, 1)

    whole = Strategy(MatchLoss(share=1), BindLoss(share=1), KeepLoss(share=1), LookLoss(share=1))
    masked = helped(model, "blocks", whole, items=lambda *_: items, labels=labels)
    model(xs, ys)
    values = masked.values(xs, ys)
    masked.close()
    for rows in (slice(3), slice(3, 6)):
        helper = helped(model, "blocks", whole)
        n = K if rows.start is None else 4
        model(xs[rows, :n], ys[rows, :n])
        single = helper.values(xs[rows, :n], ys[rows, :n])
        assert all(value.isfinite() for value in single.values())
        helper.close()
    with_noise = xs.clone()
    with_noise[3:, 4:] += 1
    masked = helped(model, "blocks", whole, items=lambda *_: items, labels=labels)
    model(with_noise, ys)
    again = masked.values(with_noise, ys)
    for name, value in values.items():
        torch.testing.assert_close(again[name], value)


def test_a_query_at_the_end_only() -> None:
    xs, ys = classes(8, K + 1)
    model = made(lambda: FewShot(Block))
    helper = helped(model, "blocks")
    model(xs, ys[:, :-1])
    assert helper(xs, ys[:, :-1]).isfinite()
    told = helped(model, "blocks", values="targets")
    model(xs, ys[:, :-1])
    assert told(xs, ys[:, :-1], targets=ys).isfinite()
    assert not torch.equal(helper.last["match-loss[share=0.6]"], told.last["match-loss[share=0.6]"])
    joined = helped(model, "blocks", values=lambda _, shown, last: torch.cat((shown, last), 1))
    model(xs, ys[:, :-1])
    joined(xs, ys[:, :-1], last=ys[:, -1:])
    torch.testing.assert_close(joined.last, told.last)


LABELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "integers": (lambda ys: ys, "classes"),
    "truth values": (lambda ys: (ys > 0).float(), "classes"),
    "signs": (lambda ys: (ys > 0).float() * 2 - 1, "classes"),
    "numbers": (lambda ys: ys + 0.5, "numbers"),
    "column": (lambda ys: (ys + 0.5)[..., None], "numbers"),
    "one-hot": (lambda ys: functional.one_hot(ys, 3).float(), "classes"),
    "padded numbers": (lambda ys: functional.pad(ys[..., None] + torch.rand(()), (0, 3)), "numbers in coordinate 0"),
}


class Reads(nn.Module):
    """Labels in any form."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.item, self.label = nn.Linear(4, WIDTH), nn.Linear(size, WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        ys = ys.float()
        labels = self.label(ys if ys.ndim == 3 else ys[..., None])
        x = torch.stack((self.item(xs), labels), 2).flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize(("make", "kind"), LABELLINGS.values(), ids=LABELLINGS)
def test_labels_are_found_and_named(make: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    xs, ys = classes()
    ys = make(ys)
    model = made(lambda: Reads(ys.shape[2] if ys.ndim == 3 else 1))
    helper = helped(model, "blocks")
    model(xs, ys)
    with caplog.at_level(logging.INFO):
        assert helper(xs, ys).isfinite()
    assert any(f"read causally; labels: ys, {kind}" in line for line in caplog.messages)
    model(xs, ys)
    helper(xs, ys)
    assert len(caplog.messages) == 1


def test_a_batch_where_no_label_recurs_gives_0_with_a_gradient() -> None:
    xs, _ = classes()
    ys = torch.arange(3).repeat(8, 1)
    model = made(lambda: FewShot(Block))
    helper = helped(model, "blocks", Strategy(MatchLoss(), LookLoss()))
    model(xs[:, :3], ys)
    loss = helper(xs[:, :3], ys)
    assert loss == 0
    loss.backward()
    assert all(one.grad is None or one.grad.isfinite().all() for one in model.parameters())


def test_one_prompt_in_tokens_stands_in_one_tensor() -> None:
    class Tokens(FewShot):
        def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
            x = self.label(tokens) + self.position[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            return x

    model = made(lambda: Tokens(Block))
    tokens = torch.randint(3, (8, 13), generator=torch.Generator().manual_seed(0))
    helper = helped(model, "blocks", items=slice(1, None, 2), labels=slice(2, None, 2))  # behind a first token
    model(tokens)
    assert helper(tokens).isfinite()


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at what hooks keep
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model(backend: str) -> None:
    torch._dynamo.reset()
    plain, model = made(lambda: FewShot(Block)), made(lambda: FewShot(Block))
    compiled: Any = torch.compile(model, backend=backend, fullgraph=True)
    helper, other = helped(compiled, "blocks"), helped(plain, "blocks")
    for _ in range(3):
        given = classes()
        (compiled(*given).square().mean() + helper(*given)).backward()
        (plain(*given).square().mean() + other(*given)).backward()
    assert helper.last.keys() == other.last.keys()
    for name, value in helper.last.items():
        torch.testing.assert_close(value, other.last[name], rtol=1e-4, atol=1e-5)
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)


@each
def test_half_precision(new: Any, blocks: str, batch: Any, more: Any) -> None:
    model = made(new)
    helper = helped(model, blocks, **more)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(*batch())
            loss = helper(*batch())
        assert loss.isfinite()
        loss.backward()


def test_gradients_accumulate_and_evaluation_between_does_not_disturb() -> None:
    model, (xs, ys) = made(Regression), numbers()
    helper = helped(model, "backbone.h", Strategy(MatchLoss(share=1)))
    for rows in (slice(4), slice(4, 8)):
        output = model(xs[rows], ys[rows])
        with torch.no_grad():
            model.eval()(xs, ys)
            assert helper(xs, ys) == 0.0
            model.train()
        ((output.mean() + helper(xs[rows], ys[rows])) / 2).backward()
    assert int(helper.calls) == 2
    assert model.read_in.weight.grad is not None


def test_checkpointing_that_hides_gradients_is_named() -> None:
    model = made(lambda: FewShot(Block, checkpointed=True))
    helper = helped(model, "blocks")
    model(*classes())
    with pytest.raises(SpecError, match="use_reentrant=False"):
        helper(*classes())


def test_recomputed_activations_are_not_taken_for_a_new_pass() -> None:
    model = made(lambda: FewShot(Block, checkpointed=False))
    helper = helped(model, "blocks")
    for _ in range(2):
        (model(*classes()).mean() + helper(*classes())).backward()
        with pytest.raises(SpecError, match="must be called on this batch, with gradients, just before"):
            helper(*classes())


def _in_a_process(store: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=0, world_size=1)
    model = made(lambda: FewShot(Block))
    wrapped = nn.parallel.DistributedDataParallel(model)
    helper = helped(wrapped, "blocks")
    for _ in range(2):
        (wrapped(*classes()).square().mean() + helper(*classes())).backward()
    torch.save([one.grad for one in model.parameters()], out)
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_distributed_training(tmp_path: Path, python: Python) -> None:
    store, out = str(tmp_path / "store"), str(tmp_path / "gradients")
    done = python(__file__, store, out, cwd=tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 0, done.stderr
    model = made(lambda: FewShot(Block))
    helper = helped(model, "blocks")
    for _ in range(2):
        (model(*classes()).square().mean() + helper(*classes())).backward()
    for one, other in zip(model.parameters(), torch.load(out), strict=True):
        torch.testing.assert_close(one.grad, other, rtol=1e-4, atol=1e-6)


def test_terms_that_are_let_go_fade_and_leave_nothing() -> None:
    model = made(lambda: FewShot(Block))
    helper = helped(model, "blocks", Strategy(MatchLoss(until=2), LookLoss(until=1)))
    sums = []
    for _ in range(6):
        model(*classes())
        total = float(torch.as_tensor(helper(*classes())).detach())
        sums.append(total / sum(float(value) for value in helper.last.values()) if helper.last else total)
    assert sums[:2] == pytest.approx([1, 1])
    assert 0 < sums[3] < sums[2] == pytest.approx(1)
    assert sums[4:] == [0, 0]
    assert not hooks(model)
    with torch.no_grad():
        assert helper(*classes()) == 0.0


def test_a_helper_is_saved_and_a_model_copied() -> None:
    model, given = made(Regression), numbers()
    helper = helped(model, "backbone.h")
    model(*given)
    helper(*given)
    state = copy.deepcopy(helper.state_dict())
    twin = copy.deepcopy(model)  # an average of weights, say
    assert torch.equal(twin(*given), model(*given))
    other = helped(model, "backbone.h", seed=1)
    other.load_state_dict(state)
    assert int(other.calls) == 1


class NoAttention(nn.Module):
    """Mixes positions without PyTorch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.norm(x)).cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]


def test_a_term_that_is_shown_nothing_is_left_out_by_name(caplog: pytest.LogCaptureFixture) -> None:
    model = made(lambda: FewShot(NoAttention))
    helper = helped(model, "blocks")
    for _ in range(2):
        model(*classes())
        with caplog.at_level(logging.WARNING):
            helper(*classes())
    (line,) = caplog.messages
    assert line.startswith("LookLoss: block 2 (NoAttention) calls no attention of PyTorch's")
    assert len(helper.last) == 2
    alone = helped(model, "blocks", Strategy(LookLoss()))
    model(*classes())
    with pytest.raises(SpecError, match=r"LookLoss: block 2 \(NoAttention\)"):
        alone(*classes())


def test_attention_and_items_alone_may_be_given() -> None:
    model = made(lambda: FewShot(Block))
    default = helped(model, "blocks")

    def alone(layer: int, xs: Tensor, ys: Tensor) -> Tensor:
        x = (model.item(xs) + model.position[0]).flatten(0, 1)[:, None]
        for block in model.blocks[:layer]:
            x = block(x)
        return x.unflatten(0, xs.shape[:2])[:, :, 0]

    def attention(layer: int, xs: Tensor, ys: Tensor) -> Tensor:
        x = torch.stack((model.item(xs), model.label(ys)), 2).flatten(1, 2) + model.position[: 2 * K]
        for block in model.blocks[: layer - 1]:
            x = block(x)
        return model.blocks[layer - 1].shares(x)

    model(*classes())
    one = default.values(*classes())
    default.close()
    given = helped(model, "blocks", alone=alone, attention=attention)
    model(*classes())
    other = given.values(*classes())
    given.close()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)
    wrong = helped(model, "blocks", alone=lambda layer, xs, ys: xs)
    model(*classes())
    with pytest.raises(SpecError, match=r"alone: must return \(5, 6, 16\), got \(5, 6, 4\)"):
        wrong(*classes())


class InPlace(Block):
    """Returns no tensor: it changes the one that it is given."""

    def forward(self, x: Tensor) -> Any:
        x += super().forward(x.clone())


class Silent(FewShot):
    """Blocks that change the state in place."""

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        x = torch.stack((self.item(xs), self.label(ys)), 2).flatten(1, 2)
        for block in self.blocks:
            block(x)
        return x


class Shifted(FewShot):
    """A first token of its own, of which the user did not think."""

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        x = torch.stack((self.item(xs), self.label(ys)), 2).flatten(1, 2)
        x = torch.cat((torch.zeros_like(x[:, :1]), x), 1)[:, :-1] + self.position[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"blocks": "block"}, "blocks: the model has no 'block'; did you mean 'blocks'?"),
        ({"blocks": "item"}, "blocks: 'item' is a Linear and holds 0 lists of modules"),
        ({"blocks": []}, "blocks: the list is empty"),
        ({"blocks": [nn.Linear(2, 2)]}, "blocks: block 1 is no part of the model"),
        ({"strategy": "unplatau"}, "unknown strategy 'unplatau'; did you mean 'unplateau'?"),
        ({"strategy": Strategy(up.WeightsLoss())}, "WeightsLoss: prompts of any module have no annotation"),
        ({"strategy": Strategy(up.ComponentLoss())}, "ComponentLoss: prompts of any module have no annotation"),
        ({"strategy": Strategy(up.ContextLoss())}, "ContextLoss: prompts of any module have no annotation"),
    ],
)
def test_what_cannot_work_is_refused_before_training(more: dict[str, Any], message: str) -> None:
    model = made(lambda: FewShot(Block))
    strategy = more.pop("strategy", ALL)
    with pytest.raises(SpecError) as raised:
        helped(model, more.pop("blocks", "blocks"), strategy)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not hooks(model)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"items": slice(0, 40, 2)}, "items: slice(0, 40, 2) is out of range for prompts of 12 positions"),
        ({"items": [0, 2, 12]}, "items: 12 is out of range: positions are 0 .. 11"),
        ({"labels": [3, 1]}, "labels: they must grow"),
        ({"items": slice(0, 4), "labels": slice(2, 6)}, "items, labels: positions overlap"),
        ({"items": LABELS, "labels": ITEMS}, "items, labels: every label must stand at its item or after it"),
        ({"items": [0], "labels": [1]}, "a prompt needs at least two items"),
        ({"items": lambda *_: torch.ones(2, 2)}, "items: needs a mask (8, 12) of bool"),
        ({"items": "where"}, "the helper's call has no 'where'"),
        ({"values": lambda xs, ys: ys[:, :2]}, "values: needs labels (8, 6), one for each pair; got (8, 2)"),
        ({"values": lambda xs, ys: ys.to(torch.complex64)}, "values: labels must be integers or real numbers"),
        ({"values": lambda xs, ys: xs}, "values: labels are vectors that do not recur"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(more: dict[str, Any], message: str) -> None:
    model = made(lambda: FewShot(Block))
    helper = helped(model, "blocks", **more)
    model(*classes())
    state = torch.get_rng_state()
    with pytest.raises(SpecError) as raised:
        helper(*classes())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (lambda: FewShot(lambda: Block(causal=False)), "position 0 depends on a label behind it (not causal)"),
        (lambda: Silent(InPlace), "what block 3 returns must be, or begin with, a tensor"),
        (
            lambda: Shifted(Block),
            "labels: another label of pair 4 (ys) changes what enters block 1 at 8, but it is said",
        ),
    ],
)
def test_what_the_model_does_otherwise_is_said(new: Any, message: str) -> None:
    model = made(new)
    helper = helped(model, "blocks")
    model(*classes())
    for _ in range(2):
        with pytest.raises(SpecError) as raised:
            helper(*classes())
        assert message in str(raised.value)
        model(*classes())


def test_the_model_is_called_on_the_same_batch_just_before() -> None:
    model, (xs, ys) = made(lambda: FewShot(Block)), classes()
    helper = helped(model, "blocks")
    with pytest.raises(SpecError, match="must be called on this batch, with gradients, just before; it was not"):
        helper(xs, ys)
    model(xs, ys)
    with pytest.raises(SpecError, match=r"it was not given this tensor \(8, 6, 4\)"):
        helper(xs + 1, ys)
    model(xs, ys)
    assert helper(xs.clone(), ys).isfinite()
    model.blocks[1]._forward_hooks.clear()
    model(xs, ys)
    with pytest.raises(SpecError, match="a hook was removed"):
        helper(xs, ys)


if __name__ == "__main__":
    _in_a_process(*sys.argv[1:])
