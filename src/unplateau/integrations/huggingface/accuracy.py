"""In-context accuracy of a language model on a task, beside what could be reached without and with the context.

What enters: a decoder and a task in tokens. What leaves: accuracy and loss by the number of pairs before.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.prompts import TokenTask
from unplateau.rng import fold_seed
from unplateau.tasks.floors import floors
from unplateau.types import Split

PROMPTS_AT_ONCE = 32


@dataclass(frozen=True)
class InContextAccuracy:
    """How well a model predicts labels on ``n_prompts`` prompts; lists have a value for each of the K positions.

    ``accuracy``: share of labels that are the most likely among the C labels; ``loss``: cross-entropy in nats among
    them. ``no_context_*`` and ``bayes_*`` are those of the task's two exact predictors; means over positions.
    """

    accuracy: float
    loss: float
    accuracy_by_position: list[float]
    loss_by_position: list[float]
    no_context_accuracy: float
    no_context_loss: float
    bayes_accuracy: float
    bayes_loss: float
    n_prompts: int


@torch.no_grad()
def icl_accuracy(
    decoder: Decoder, token_task: TokenTask, n_prompts: int = 256, seed: int = 0, *, split: Split = "test"
) -> InContextAccuracy:
    """Accuracy and loss among the labels, on prompts that depend on nothing but the task, the split and ``seed``.

    Raises SpecError for less than one prompt.
    """
    if n_prompts < 1:
        raise SpecError(f"n_prompts: must be at least 1 (got {n_prompts})")
    if decoder.label_tokens != token_task.label_tokens:
        decoder = Decoder(decoder.model, shape=token_task.shape, label_tokens=token_task.label_tokens)
    device = decoder.input_embedding.weight.device
    hits, losses = [], []
    for step in range(-(-n_prompts // PROMPTS_AT_ONCE)):
        size = min(PROMPTS_AT_ONCE, n_prompts - step * PROMPTS_AT_ONCE)
        batch = token_task.sample(step, batch_size=size, split=split, seed=fold_seed(seed, "in-context")).to(device)
        logits = decoder.logits(batch.inputs)  # (B, K, C)
        hits.append((logits.argmax(2) == batch.targets).double().cpu())
        losses.append(functional.cross_entropy(logits.mT, batch.targets, reduction="none").double().cpu())
    accuracy, loss = (torch.cat(one).mean(0) for one in (hits, losses))  # (K,)
    exact = floors(token_task.task, split=split, n_prompts=1024)
    return InContextAccuracy(
        accuracy=float(accuracy.mean()),
        loss=float(loss.mean()),
        accuracy_by_position=accuracy.tolist(),
        loss_by_position=loss.tolist(),
        no_context_accuracy=fmean(exact.no_context_accuracy),
        no_context_loss=fmean(exact.no_context_loss),
        bayes_accuracy=fmean(exact.bayes_accuracy),
        bayes_loss=fmean(exact.bayes_loss),
        n_prompts=n_prompts,
    )
