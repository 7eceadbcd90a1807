"""Any module as one that can be taken apart: the same components as our own, the laws, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2Model

import unplateau as up
from unplateau.errors import LawError, SpecError
from unplateau.integrations.module_reader import ModuleReader
from unplateau.integrations.modules import PromptStrategy
from unplateau.items.texts import LabelledText
from unplateau.layout import Layout
from unplateau.probe import measure, probe_three_things
from unplateau.tasks.base import Task
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Prompts, TokenPrompts
from unplateau.testing import check_model

K, WIDTH, LABELS = 6, 16, 4
CODES = up.FactorTask(source=up.RandomCodes(sizes=(4, 4), width=8), n_pairs=K)


class Pairs(nn.Module):
    """Reads (items, labels) as x_1 y_1 x_2 y_2 ... and returns the logits of the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.label, self.head = nn.Linear(8, WIDTH), nn.Embedding(LABELS, WIDTH), nn.Linear(WIDTH, LABELS)

    def embed(self, xs: Tensor, ys: Tensor) -> Tensor:
        """(B, 2K, D), or one less where the last label is missing."""
        labels = functional.pad(self.label(ys), (0, 0, 0, xs.shape[1] - ys.shape[1]))
        return torch.stack((self.item(xs), labels), 2).flatten(1, 2)[:, : xs.shape[1] + ys.shape[1]]


class Backbone(Pairs):
    """A GPT-2 backbone fed with vectors."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"n_positions": 64, "n_embd": WIDTH, "n_layer": 3, "n_head": 2, "initializer_range": 0.3}
        self.backbone = GPT2Model(GPT2Config(vocab_size=1, bos_token_id=None, eos_token_id=None, **sizes))

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        return self.head(self.backbone(inputs_embeds=self.embed(xs, ys)).last_hidden_state[:, ::2])


class Encoder(Pairs):
    """``nn.TransformerEncoder`` with dropout; ``causal``: under a mask; ``begin``: positions of its own come first."""

    def __init__(self, *, batch_first: bool = True, causal: bool = True, begin: int = 0) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=batch_first)
        self.place = nn.Parameter(torch.randn(64, WIDTH))
        self.batch_first, self.causal, self.begin = batch_first, causal, begin

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        x = functional.pad(self.embed(xs, ys), (0, 0, self.begin, 0))
        x = x + self.place[: x.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        if not self.batch_first:
            return self.head(self.encoder(x.transpose(0, 1), mask=mask).transpose(0, 1))
        return self.head(self.encoder(x, mask=mask))


BLOCKS = {Backbone: "backbone.h", Encoder: "encoder.layers"}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (Backbone, {}),
    "encoder": (Encoder, {}),
    "positions first": (lambda: Encoder(batch_first=False), {"batch_first": False}),
    "a position of its own": (lambda: Encoder(begin=1), {"positions": slice(1, None)}),
    "no last label": (Encoder, {"call": lambda prompts: {"xs": prompts.items, "ys": prompts.labels[:, :-1]}}),
}


def made(new: Any) -> Any:
    torch.manual_seed(0)
    return new()


def reader(model: nn.Module, **more: Any) -> ModuleReader:
    return ModuleReader(model, **({"blocks": BLOCKS.get(type(model), "blocks")} | more))


def prompts(n_rows: int = 5, seed: int = 0) -> Prompts:
    return CODES.sample(seed, batch_size=n_rows).inputs


def hooks(model: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())


TASKS: dict[str, Task] = {
    "codes": CODES,
    "numbers": LinearRegression(n_pairs=5),
    "a cue, items of several positions": WordSelection(n_pairs=4),
    "sentences": up.FactorTask(source=LabelledText(written="pieces", most_pieces=5), n_pairs=4),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_our_own_model_read_as_a_foreign_module_has_the_same_components(task: Task) -> None:
    own = up.Transformer(up.ModelConfig(n_layers=2, width=WIDTH), task.shape, seed=1)
    inputs = task.sample(0, batch_size=3).inputs
    one = up.decompose(own, inputs)
    other = up.decompose(reader(own, call=lambda prompts: (prompts,)), inputs)
    for name in ("hidden", "weights", "context"):  # at every position, labels and places included
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-5)


def test_probes_find_the_same_in_it() -> None:
    own = up.Transformer(up.ModelConfig(n_layers=2, width=WIDTH), CODES.shape, seed=1)
    foreign = reader(own, call=lambda prompts: (prompts,))
    for component in ("weights", "context", "hidden"):
        one, other = (
            up.probe_components(model, CODES, component=component, n_train=128, n_test=128) for model in (own, foreign)
        )
        assert one == other
    train, test = (CODES.sample(0, batch_size=16, split=split) for split in ("train", "test"))
    ours, theirs = (measure(model, train, test, CODES.shape) for model in (own, foreign))
    looks = {"look_score": None, "look_control": None}  # of which there are two ways to compute the softmax
    assert replace(ours, **looks) == replace(theirs, **looks)
    for name in looks:
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-6)


@pytest.mark.parametrize(("new", "more"), CASES.values(), ids=CASES)
def test_a_foreign_module_keeps_the_laws_and_is_left_as_it_was(new: Any, more: dict[str, Any]) -> None:
    model = made(new)
    read, inputs, state = reader(model, **more), prompts(), torch.get_rng_state()
    model.head.eval()  # modes are put back one by one
    parts = up.decompose(read, inputs)
    assert parts.hidden.shape[:2] == (4, 5)
    torch.testing.assert_close(parts.hidden, parts.weights + parts.context)
    assert parts.context[0].abs().max() == 0
    torch.testing.assert_close(parts.weights[:, :, 0], parts.hidden[:, :, 0])
    assert parts.context[-1, :, 1:].abs().amax(2).min() > 0.01
    if parts.hidden.shape[2] == 2 * K:
        check_model(read, inputs, cuts=("self",))
    assert torch.equal(state, torch.get_rng_state())
    assert not hooks(model)
    assert [one.training for one in model.modules()].count(False) == 1
    assert all(one.grad is None and one.requires_grad for one in model.parameters())
    scores = up.probe_components(read, CODES, component="context", n_train=32, n_test=32)
    assert [score.layer for score in scores] == [0, 1, 2, 3]


def test_weights_are_those_of_the_item_in_a_prompt_of_its_own() -> None:
    model, inputs = made(Backbone), prompts()
    with torch.no_grad():
        model.backbone.wpe.weight.zero_()  # or the item would stand elsewhere
    read, layout = reader(model), Layout(1)
    weights = inputs.at_known(up.decompose(read, inputs).weights)
    for pair in range(K):
        one = Prompts(inputs.items[:, pair : pair + 1], inputs.labels[:, pair : pair + 1], layout)
        torch.testing.assert_close(weights[:, :, pair], read(one).hidden[:, :, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("new", "more"), CASES.values(), ids=CASES)
def test_logits_are_the_output_at_the_queries(new: Any, more: dict[str, Any]) -> None:
    model, inputs = made(new).eval(), prompts()
    read = reader(model, **more)
    given = inputs.labels[:, :-1] if "call" in more else inputs.labels
    with torch.no_grad():
        output = model(inputs.items, given)
    if type(model) is Encoder:
        output = output[:, model.begin :: 2]
    torch.testing.assert_close(read(inputs).logits, output)
    assert read(inputs, "self").logits.shape == (5, K, 0)


@pytest.mark.parametrize(("new", "more"), CASES.values(), ids=CASES)
def test_labels_and_looks_are_found_in_any_of_them(new: Any, more: dict[str, Any]) -> None:
    model = reader(made(new), **more)
    scores = probe_three_things(model, CODES, n_prompts=24)
    assert {score.kind for score in scores} == {"few-shot", "share", "binding", "keep", "look"}
    shares = model.attentions(CODES.sample(0, batch_size=4).inputs)
    assert shares is not None
    assert shares.shape[:3] == (3, 4, 2)
    if not more.get("positions"):  # nothing but the prompt is looked at
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]))


class Numbers(Backbone):
    """One number a query."""

    def forward(self, xs: Tensor, ys: Tensor) -> Any:
        return super().forward(xs, ys)[..., 0]


class Silent(Backbone):
    """Returns what is no tensor."""

    def forward(self, xs: Tensor, ys: Tensor) -> Any:
        return {"logits": super().forward(xs, ys)}


def test_other_outputs() -> None:
    assert reader(made(Numbers), blocks="backbone")(prompts()).logits.shape == (5, K, 1)
    assert reader(made(Silent), blocks="backbone")(prompts()).logits.shape == (5, K, 0)


class Mean(nn.Module):
    """A block that adds a mean over what is before, in place if asked."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.mix, self.in_place = nn.Linear(WIDTH, WIDTH), in_place

    def forward(self, x: Tensor) -> Tensor:
        added = self.mix(x).cumsum(1)
        if self.in_place:
            x += added
            return x
        return x + added


class Stack(Pairs):
    """Blocks ``Mean``; ``again``: each reads the embedding once more; ``used``: so many run; ``fixed``: one length."""

    def __init__(self, *, in_place: bool = False, again: bool = False, used: int = 2, fixed: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Mean(in_place=in_place) for _ in range(2))
        self.place = nn.Parameter(torch.zeros(2 * K, WIDTH))
        self.again, self.used, self.fixed = again, used, fixed

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        first = x = self.embed(xs, ys) + (self.place if self.fixed else 0)
        for block in self.blocks[: self.used]:
            x = block(x) + (first if self.again else 0)
        return x


class Both(Pairs):
    """Item and label share a position."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Mean()])

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        return self.blocks[0](self.item(xs) + self.label(ys))


@pytest.mark.parametrize(
    ("new", "more", "message"),
    [
        (Stack, {"blocks": "block"}, "blocks: the model has no 'block'; did you mean 'blocks'?"),
        (lambda: Encoder(causal=False), {}, "after block 1 the first position of a prompt is not what it is alone"),
        (lambda: Stack(again=True), {}, "after block 2 the first position of a prompt is not what it is alone"),
        (lambda: Stack(in_place=True), {}, "the first position of a prompt is not what it is alone"),
        (lambda: Stack(used=1), {}, "blocks: block 2 of 2 did not run"),
        (lambda: Stack(fixed=True), {}, "the module cannot be called on prompts of one pair (The size of tensor"),
        (lambda: Encoder(begin=1), {}, "positions: 5 prompts of 12 positions enter block 1 as 5 rows of 13"),
        (Stack, {"positions": slice(0, 40)}, "positions: slice(0, 40, None) is out of range"),
        (lambda: Encoder(batch_first=False), {}, "5 prompts of 12 positions enter block 1 as 12 rows of 5"),
        (Both, {}, "5 prompts of 12 positions enter block 1 as 5 rows of 6"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(new: Any, more: dict[str, Any], message: str) -> None:
    model = made(new)
    with pytest.raises(SpecError) as raised:
        up.decompose(reader(model, **more), prompts())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not hooks(model)
    assert all(module.training for module in model.modules())


def test_other_cuts_and_other_prompts_are_refused() -> None:
    read, inputs = reader(made(Stack)), prompts()
    for cut in ("item", "identity", "zero"):
        with pytest.raises(SpecError, match=f"cut {cut} means nothing in any module; use cut self"):
            up.probe_components(read, CODES, cut=cut, n_train=8, n_test=8)
    with pytest.raises(SpecError, match="any module reads Prompts"):
        read(TokenPrompts(inputs.labels))


def test_another_item_or_label_changes_no_other_weights() -> None:
    read, inputs = reader(made(Backbone)), prompts()
    other = replace(inputs, labels=(inputs.labels + 1) % LABELS)
    one, two = (up.decompose(read, given) for given in (inputs, other))
    assert torch.equal(inputs.at_known(one.weights), inputs.at_known(two.weights))
    assert not torch.equal(inputs.at_known(one.hidden), inputs.at_known(two.hidden))


class Centred(Stack):
    """What enters block 1 depends on the whole prompt."""

    def embed(self, xs: Tensor, ys: Tensor) -> Tensor:
        return super().embed(xs - xs.mean(1, keepdim=True), ys)


def test_a_mixture_before_the_first_block_is_told_by_the_laws() -> None:
    with pytest.raises(LawError):
        check_model(reader(made(Centred), blocks="blocks"), prompts(), cuts=("self",))


def test_it_may_read_in_the_midst_of_training_with_terms() -> None:
    model, inputs = made(Backbone), prompts()
    batch = inputs.items, inputs.labels
    helper = PromptStrategy(model, blocks="backbone.h", items=slice(0, None, 2), labels=slice(1, None, 2))
    read, values = reader(model), []
    for looks in (False, True):
        model.eval()(*batch)
        if looks:
            up.decompose(read, inputs)
        values.append(helper(*batch))
    assert values[0] == values[1] > 0


def test_in_half_precision() -> None:
    model, inputs = made(Encoder), prompts()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = up.decompose(reader(model), inputs)
    assert parts.weights.dtype == torch.float32
    given = lambda prompts: (prompts.items.bfloat16(), prompts.labels)  # noqa: E731
    parts = up.decompose(reader(model.bfloat16(), call=given), inputs)
    assert parts.context[:, :, 0].abs().max() < 0.02 * parts.hidden.abs().max()
