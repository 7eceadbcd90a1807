"""A Transformer's forward and backward pass translated by torch.compile."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from unplateau.errors import SpecError
from unplateau.layout import TaskShape
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.tensors import Inputs, Prediction, Prompts
from unplateau.terminal import one_line


def compiled_prediction(model: Transformer, inputs: Inputs) -> Prediction:
    """As ``model.predict_queries``, to rounding. Models of the same sizes share what is translated at the first call.

    Raises SpecError where the machine has nothing to translate with.
    """
    assert isinstance(inputs, Prompts)
    try:
        logits, at_queries, *states = _translated(model.config, model.shape)(
            {f"model.{name}": weight for name, weight in model.named_parameters()},
            inputs.items,
            inputs.labels,
            inputs.cues,
        )
    except torch._dynamo.exc.TorchDynamoException as error:
        why = one_line(str(error)).partition(" Set TORCHDYNAMO_VERBOSE")[0]
        raise SpecError(f"train.execution=compiled cannot be used here ({why[:200]}); try graphed or eager") from error
    return Prediction(logits, at_queries, states, lambda: model.blocks[-1](states[-1], "causal"))


@lru_cache(maxsize=8)
def _translated(config: ModelConfig, shape: TaskShape) -> Any:
    pattern = _Passed(Transformer(config, shape).to("meta"))

    def passed(weights: dict[str, Tensor], *parts: Tensor | None) -> tuple[Tensor, ...]:
        return functional_call(pattern, weights, parts)

    return torch.compile(passed, dynamic=False)


class _Passed(nn.Module):
    """A model whose call takes tensors and returns tensors."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, labels: Tensor, cues: Tensor | None) -> tuple[Tensor, ...]:
        """Of these prompts what a :class:`~unplateau.tensors.Prediction` has, without its last block."""
        passed = self.model.predict_queries(Prompts(items, labels, self.model.shape.layout, cues))
        return passed.logits, passed.at_queries, *passed.states
