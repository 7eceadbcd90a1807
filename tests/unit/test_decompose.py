"""What is said of a model that cannot be taken apart, or does not heed the cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import unplateau as up
from unplateau.errors import SpecError
from unplateau.probe.diagnose import diagnose
from unplateau.tensors import Output, Prompts

TASK = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8), n_pairs=4)
INPUTS = TASK.sample(0, batch_size=2).inputs


class Adapter(nn.Module):
    """A host whose forward pass may forget things."""

    n_layers = 2

    def __init__(self, *, heeds: bool = True, keeps: int = 3) -> None:
        super().__init__()
        self.inside = up.Transformer(up.ModelConfig(n_layers=2, width=8), TASK.shape)
        self.heeds, self.keeps = heeds, keeps

    def forward(self, inputs: Prompts, attention: str = "causal") -> Output:
        output = self.inside(inputs, attention if self.heeds else "causal")
        return Output(output.logits, output.hidden[: self.keeps])


class NoArgument(Adapter):
    def forward(self, inputs: Prompts) -> Output:  # type: ignore[override]
        return self.inside(inputs)


class Bare(Adapter):
    def forward(self, inputs: Prompts, attention: str = "causal") -> Any:
        return super().forward(inputs, attention).logits


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Linear(2, 2), "Linear cannot be taken apart: it lacks n_layers, the number of its blocks; and attention"),
        (NoArgument(), "NoArgument cannot be taken apart: it lacks attention, an argument of its forward pass"),
        (
            Bare(),
            "Bare must return hidden states (3, B, T, D), the embedding first, as unplateau.tensors.Output; got no",
        ),
        (Adapter(keeps=2), "Adapter must return hidden states (3, B, T, D)"),
        ("gpt2", "str cannot be taken apart"),
    ],
)
def test_what_is_missing_is_said_and_where_it_is_described(model: Any, says: str) -> None:
    for call in (
        lambda: up.decompose(model, INPUTS),
        lambda: up.probe_components(model, TASK, n_train=16, n_test=16),
    ):
        with pytest.raises(SpecError) as caught:
            call()
        assert str(caught.value).startswith(says)
        assert "docs/extending.md, 'A model', has one" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_model_without_predictions_of_its_own_is_told_before_it_is_asked() -> None:
    with pytest.raises(SpecError, match="NoArgument cannot be taken apart"):
        diagnose(NoArgument(), TASK)


def test_a_model_that_does_not_heed_the_cut_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    assert not up.decompose(Adapter(heeds=False), INPUTS).context.any()
    (record,) = caplog.records
    assert record.getMessage().startswith("Adapter computes the same under every cut, so that its context component is")
    caplog.clear()
    assert up.decompose(Adapter(), INPUTS).context.any()
    assert not caplog.records


def test_a_model_whose_attention_still_adds_nothing_is_not_blamed(caplog: pytest.LogCaptureFixture) -> None:
    """As some are initialised: the cut ``identity`` shows that it heeds the argument."""
    model = Adapter()
    for block in model.inside.blocks:
        nn.init.zeros_(block.attention.project.weight)  # type: ignore[union-attr]
        nn.init.zeros_(block.attention.project.bias)  # type: ignore[union-attr]
    assert not up.decompose(model, INPUTS).context.any()
    assert not caplog.records


def test_they_show_themselves() -> None:
    parts = up.decompose(Adapter(), INPUTS)
    assert repr(parts) == "Components(cut 'self': 3 layers, 2 prompts, 8 positions, width 8)"
    assert "block 2" in parts._repr_html_()
    batch = TASK.sample(0, batch_size=2)
    assert repr(batch).startswith(
        "Batch(inputs.items (2, 4, 8), inputs.labels (2, 4), targets (2, 4), factors (2, 4, 2)"
    )
    assert "Batch of 2 prompts" in batch._repr_html_()
    assert torch.equal(parts.hidden, parts.weights + parts.context) or parts.hidden.allclose(
        parts.weights + parts.context, atol=1e-6
    )
