"""What the weights of a model in somebody else's training know, in the columns of a run of our own.

Looking changes nothing: neither random numbers, nor modes, nor gradients.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Annotations, Target, TokenBatch, targets_of
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.passes import untouched
from unplateau.integrations.huggingface.token_task import TokenTask
from unplateau.integrations.packing import documents_apart
from unplateau.layout import Cut, Split
from unplateau.probe.linear import Examples, probe_accuracies
from unplateau.probe.measure import cells_of, measure
from unplateau.rng import fold, fold_seed
from unplateau.scores import ProbeScore, Scores
from unplateau.tasks.floors import floors
from unplateau.tensors import TokenPrompts
from unplateau.train.observers import loss_and_accuracy


class TokenScores:
    """Weights and hidden scores of every layer on a held-out batch of tokens with classes.

    A linear probe reads the class of a token off its weights component, and off its hidden state. It is trained on one
    half of the token types of the batch and tested on the other, so no token is in both. ``annotation``: tables or
    :class:`~unplateau.integrations.annotation.TokenClasses`; there is nothing to probe without classes.
    ``n_examples``: at most so many positions in either half. A batch with ``labels`` also gives ``held_out_loss``, the
    model's own loss without any term of ours. Raises SpecError where a half would be empty.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Mapping[str, Tensor] | Tensor,
        annotation: Annotations,
        *,
        cut: Cut = "self",
        n_examples: int = 4096,
        seed: int = 0,
    ) -> None:
        self.decoder = Decoder(model)
        self.decoder.require_cut(cut)
        self.batch, self.cut, self.n_examples, self.seed = TokenBatch.of(batch), cut, n_examples, seed
        self.targets = targets_of(annotation, self.decoder.parts.embedding.num_embeddings)
        for target in self.targets:
            if not target.n_classes:
                raise SpecError(f"annotation '{target.name}': scores need classes: a table (V,), or n_classes")
        self.halves = [self._split(target) for target in self.targets]

    def measure(self) -> dict[str, Any]:
        """The columns of :class:`~unplateau.scores.Scores` (means over annotations) but for those of the context."""
        with untouched(self.decoder.model):
            states = torch.cat([self._states(attention) for attention in (self.cut, "causal")])  # (2 (L + 1), B T, D)
            cells = [
                cell
                for target, halves in zip(self.targets, self.halves, strict=True)
                for cell in self._cells(states, target, halves)
            ]
            row = self._held_out_loss()
        return {**Scores.of(cells, [target.name for target in self.targets]).columns(), **row}

    def _cells(self, states: Tensor, target: Target, halves: tuple[Tensor, Tensor]) -> list[ProbeScore]:
        """One annotation in every layer."""
        classes, tokens = self._flat(target)
        train, test = (_examples(states, at, classes, tokens, target) for at in halves)
        found = probe_accuracies(train, test, [target.n_classes], seed=self.seed)
        layers = range(self.decoder.n_layers + 1)
        return [
            *cells_of(found, layers, [target.name], "weights", self.cut),
            *cells_of(found, layers, [target.name], "hidden", self.cut, skipped=len(layers)),
        ]

    def _flat(self, target: Target) -> tuple[Tensor, Tensor]:
        """Classes and tokens (B T,)."""
        return target.classes(self.batch).flatten().cpu(), self.batch.prompts.tokens.flatten().cpu()

    def _split(self, target: Target) -> tuple[Tensor, Tensor]:
        """Flat positions for training and for testing, of different token types."""
        classes, tokens = self._flat(target)
        usable = (classes != IGNORED).nonzero()[:, 0]
        types = tokens[usable].unique()
        generator = fold(self.seed, f"token halves/{target.name}")
        chosen = types[torch.randperm(len(types), generator=generator)[: len(types) // 2]]
        usable = usable[torch.randperm(len(usable), generator=generator)]
        tested = torch.isin(tokens[usable], chosen)
        if len(types) < 4:
            raise SpecError(f"annotation '{target.name}': {len(types)} tokens of the batch have a class; 4 are needed")
        return usable[~tested][: self.n_examples], usable[tested][: self.n_examples]

    def _states(self, attention: Cut | Literal["causal"]) -> Tensor:
        """(L + 1, B T, D): the states of every layer; each document is shown alone."""
        device = self.decoder.parts.embedding.weight.device
        prompts = self.batch.prompts.map(lambda tensor: tensor.to(device))
        if self.batch.documents is None:
            return self._shown(prompts, attention).flatten(1, 2)
        at = documents_apart(self.batch.documents).to(device)  # (N, P)
        there = at >= 0
        mask = there if prompts.mask is None else there & prompts.mask.flatten()[at]
        tokens, places = (one.flatten()[at] for one in (prompts.tokens, prompts.positions()))
        states = self._shown(TokenPrompts(tokens, mask, places=places), attention)  # (L + 1, N, P, D)
        return states[:, there]  # documents follow each other, so that flat places grow

    def _shown(self, prompts: TokenPrompts, attention: Cut | Literal["causal"]) -> Tensor:
        alone = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device).expand_as(prompts.tokens)
        anywhere = prompts.tokens.new_zeros(len(prompts.tokens), 1)  # logits are not looked at
        return self.decoder(replace(prompts, units=alone, queries=anywhere), attention).hidden

    def _held_out_loss(self) -> dict[str, float]:
        """The model's own, on all of the batch that it takes; each document is shown alone."""
        model = self.decoder.model
        if "labels" not in self.batch.given:
            return {}
        takes = inspect.signature(model.forward).parameters
        given = {key: value for key, value in self._by_document().items() if key in takes}
        device = self.decoder.parts.embedding.weight.device
        on_device = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in given.items()}
        return {"held_out_loss": float(model(**on_device).loss)}

    def _by_document(self) -> dict[str, Any]:
        """The batch with a row for each document, positions where padding moves tokens, and no label for a first token.

        A square mask says itself what may see what.
        """
        given, mask, documents = {**self.batch.given}, self.batch.prompts.mask, self.batch.documents
        given["labels"] = self._foreseen(given["labels"])
        whole = given.get("attention_mask")
        if isinstance(whole, Tensor) and whole.ndim > 2:
            return given
        if documents is not None:
            at = documents_apart(documents)
            there = (at >= 0) if mask is None else (at >= 0) & mask.flatten()[at]
            given["position_ids"] = self.batch.prompts.positions()
            given = {key: one.flatten()[at] for key, one in given.items() if _is_like(one, documents)}
            given["labels"] = given["labels"].masked_fill(~there, IGNORED)
            given["attention_mask"] = there.long()
        elif mask is not None and not bool(mask[:, 0].all()):
            given.setdefault("position_ids", self.batch.prompts.positions())
        return given

    def _foreseen(self, labels: Tensor) -> Tensor:
        """Without those of padding and of the first token of a document, which nothing before it tells."""
        mask, documents = self.batch.prompts.mask, self.batch.documents
        if mask is not None:
            labels = labels.masked_fill(~mask | ~functional.pad(mask[:, :-1], (1, 0)), IGNORED)
        if documents is not None:
            labels = labels.masked_fill(functional.pad(documents.diff(dim=1) != 0, (1, 0)), IGNORED)
        return labels


def _is_like(one: Any, tokens: Tensor) -> bool:
    return isinstance(one, Tensor) and one.shape == tokens.shape


class TaskScores:
    """Accuracy and all scores of every layer on an in-context-learning task written in tokens.

    The same ``n_prompts`` train and test prompts are used at every look. Raises SpecError for a cut without meaning.
    """

    def __init__(
        self, model: nn.Module, task: TokenTask, *, cut: Cut = "self", n_prompts: int = 256, seed: int = 0
    ) -> None:
        self.decoder, self.shape = Decoder(model, label_tokens=task.label_tokens), task.shape
        self.decoder.require_cut(cut)
        self.cut, self.seed = cut, seed
        self.batches = [task.sample(0, batch_size=n_prompts, split=split, seed=seed) for split in ("train", "test")]

    def measure(self) -> dict[str, Any]:
        """The columns of :class:`~unplateau.scores.Scores`, with ``test_loss`` and ``test_accuracy``."""
        device = self.decoder.parts.embedding.weight.device
        train, test = (batch.to(device) for batch in self.batches)
        with untouched(self.decoder.model):
            loss, accuracy = loss_and_accuracy(self.decoder.logits(test.inputs), test.targets)
            scores = measure(self.decoder, train, test, self.shape, cut=self.cut, seed=self.seed)
        return {"test_loss": loss, "test_accuracy": accuracy, **scores.columns()}


def _examples(states: Tensor, at: Tensor, classes: Tensor, tokens: Tensor, target: Target) -> Examples:
    """Examples at these flat positions; where classes belong to token types, so do the groups of the control."""
    features = states[:, at.to(states.device)].cpu()
    if not target.of_type:
        return Examples(features, classes[at][:, None], torch.arange(len(at)), tokens[at])
    types, group = tokens[at].unique(return_inverse=True)
    labels = torch.zeros(len(types), dtype=torch.int64).scatter_(0, group, classes[at])
    return Examples(features, labels[:, None], group)


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
        decoder = Decoder(decoder.model, label_tokens=token_task.label_tokens)
    device = decoder.parts.embedding.weight.device
    hits, losses = [], []
    for step in range(-(-n_prompts // PROMPTS_AT_ONCE)):
        size = min(PROMPTS_AT_ONCE, n_prompts - step * PROMPTS_AT_ONCE)
        batch = token_task.sample(step, batch_size=size, split=split, seed=fold_seed(seed, "in-context")).to(device)
        logits = decoder.logits(batch.inputs)  # (B, K, C)
        hits.append((logits.argmax(2) == batch.targets).double().cpu())
        losses.append(functional.cross_entropy(logits.mT, batch.targets, reduction="none").double().cpu())
    accuracy, loss = (torch.cat(one).mean(0) for one in (hits, losses))  # (K,)
    exact = floors(token_task.task, split=split, n_prompts=1024)
    no_context_accuracy, bayes_accuracy = exact.levels("accuracy")
    return InContextAccuracy(
        accuracy=float(accuracy.mean()),
        loss=float(loss.mean()),
        accuracy_by_position=accuracy.tolist(),
        loss_by_position=loss.tolist(),
        no_context_accuracy=no_context_accuracy,
        no_context_loss=fmean(exact.no_context_loss),
        bayes_accuracy=bayes_accuracy,
        bayes_loss=fmean(exact.bayes_loss),
        n_prompts=n_prompts,
    )
