"""The decoder: parity with GPT-2, initialisations, sizes."""

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from unplateau.errors import CheckpointError, SpecError
from unplateau.layout import Factor, Layout, TaskShape, Vectors
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Prompts

SHAPE = TaskShape(Layout(6), Vectors(10), 4, (Factor("a", 4), Factor("b", 3)), (0, 1), ("a", "b"))


def gpt2(seed: int) -> GPT2Model:
    torch.manual_seed(seed)
    sizes = GPT2Config(n_layer=3, n_embd=32, n_head=4, n_positions=20, vocab_size=11)
    model = GPT2Model(sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("seed", range(3))
def test_hidden_states_equal_those_of_gpt2_in_every_layer(seed: int) -> None:
    theirs = gpt2(seed)
    ours = Transformer(ModelConfig(n_layers=3, width=32, n_heads=4), SHAPE)
    ours.load_gpt2(theirs.state_dict())
    tokens = torch.randn(5, 12, 32)
    with torch.no_grad():
        wanted = theirs(inputs_embeds=tokens, output_hidden_states=True).hidden_states
        states = ours.hidden_states(tokens + ours.position_embedding.weight[:12], "causal")
        found = [*states[:-1], ours.normalise(states[-1])]  # GPT-2 shows its last state normalised
    for layer, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert (one - other).abs().max() <= 1e-5, f"layer {layer}"


def test_leaving_out_what_nothing_is_predicted_from_changes_no_gradient() -> None:
    model = Transformer(ModelConfig(n_layers=2, width=16), SHAPE).double()
    inputs = Prompts(torch.randn(3, 6, 10).double(), torch.randint(4, (3, 6)), SHAPE.layout)
    found = []
    for logits in (model(inputs).logits, model.predict_queries(inputs).logits):
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs.labels.flatten())
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= 1e-12


def test_foreign_state_dict_is_refused() -> None:
    state = gpt2(0).state_dict()
    with pytest.raises(CheckpointError, match="has shape"):
        Transformer(ModelConfig(n_layers=3, width=16, n_heads=4), SHAPE).load_gpt2(state)
    with pytest.raises(CheckpointError, match="is missing"):
        Transformer(ModelConfig(n_layers=4, width=32, n_heads=4), SHAPE).load_gpt2(state)


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = Transformer(ModelConfig(), SHAPE, seed=3)
    torch.manual_seed(2)
    other = Transformer(ModelConfig(), SHAPE, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.read_out.weight, Transformer(ModelConfig(), SHAPE, seed=4).read_out.weight)


@pytest.mark.parametrize(("init", "positions", "labels"), [("scaled", 0.3, 0.5), ("gpt2", 0.02, 0.02)])
def test_initialisations_have_the_stated_deviations(init: str, positions: float, labels: float) -> None:
    shape = TaskShape(Layout(200), Vectors(64), 100, (Factor("a", 100),), (0,), ("a",))
    model = Transformer(ModelConfig.model_validate({"init": init, "width": 128}), shape)
    assert float(model.position_embedding.weight.detach().std()) == pytest.approx(positions, rel=0.05)
    assert float(model.label_embedding.weight.detach().std()) == pytest.approx(labels, rel=0.05)
    linear = 1 / (3 * 64) ** 0.5 if init == "scaled" else 0.02
    assert float(model.item_embedding.weight.detach().std()) == pytest.approx(linear, rel=0.05)
    if init == "gpt2":
        assert float(model.blocks[0].contract.weight.detach().std()) == pytest.approx(0.02 / 6**0.5, rel=0.05)


def test_shapes_of_the_output() -> None:
    model = Transformer(ModelConfig(n_layers=2, width=16), SHAPE)
    output = model(Prompts(torch.randn(3, 6, 10), torch.randint(4, (3, 6)), SHAPE.layout))
    assert output.logits.shape == (3, 6, 4)
    assert output.hidden.shape == (3, 3, 12, 16)


def test_items_alone_are_embedded_as_in_a_prompt() -> None:
    model = Transformer(ModelConfig(width=16), SHAPE)
    inputs = Prompts(torch.randn(2, 6, 10), torch.randint(4, (2, 6)), SHAPE.layout)
    alone = model.component_alone(inputs.items[0], torch.arange(0, 12, 2), "self", 0)
    torch.testing.assert_close(alone, model.embed(inputs)[0, ::2])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match="width 63 is not divisible by n_heads 2"):
        ModelConfig(width=63)


def test_a_seed_gives_the_weights_that_documented_figures_come_from() -> None:
    """Weights are drawn layer after layer: one that moves would change every figure of the demo and the cards."""
    demo = Transformer(
        ModelConfig(n_heads=4, labels_carry_items=True),
        TaskShape(Layout(20), Vectors(64), 4, (Factor("a", 4), Factor("b", 4)), (0, 1), ("a", "b")),
        seed=200,
    )
    first = demo.read_out.weight[0, :3].detach()
    torch.testing.assert_close(first, torch.tensor([-0.0085392, -0.0336146, -0.0793981]), atol=1e-6, rtol=1e-4)
    words = WordSelection(words=WordSelection().words.model_copy(update={"per_topic": 50}), n_words=4, n_pairs=5)
    last = Transformer(ModelConfig(), words.shape, seed=100).state_dict()["blocks.2.contract.weight"][0, :3]
    torch.testing.assert_close(last, torch.tensor([-0.0562596, 0.0158129, -0.0011206]), atol=1e-6, rtol=1e-4)
