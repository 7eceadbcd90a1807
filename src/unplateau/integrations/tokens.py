"""Loss terms on batches of tokens, for anybody's training loop around a causal language model.

What enters: a model of transformers, a strategy, and what the weights component must predict (``annotation``). What
leaves: a number to add to the loss. Three lines are enough::

    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=2)), annotation=word_classes)
    optimiser = AdamW([*model.parameters(), *helper.parameters()])
    loss = model(**batch).loss + helper(batch)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Annotations, Target, TokenBatch, targets_of
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.models.initialise import initialise_linear
from unplateau.rng import fold
from unplateau.strategies.base import LossTerm, Strategy
from unplateau.strategies.losses import ComponentLoss, WeightsLoss

FINAL = "final state"


class TokenStrategy(nn.Module):
    """The loss terms of a strategy, computed on batches of tokens.

    ``model``: the causal language model itself, not a wrapper of it. ``annotation``: see
    :mod:`~unplateau.integrations.annotation`; several by name are averaged. ``seed``: of the heads' initial weights and
    of the tokens drawn alone. ``parameters()`` are those of the linear heads alone (none for ``identity``, ``next`` and
    classes that are tokens: these are read out by the model's own embeddings); where the model has been moved, they
    follow at the next call. Curricula of the strategy are the business of
    :class:`~unplateau.integrations.datasets.CurriculumDataset`.

    ``ComponentLoss`` reads the weights component of single tokens at their own positions, computed without dropout;
    ``items`` is the number of distinct tokens drawn from the batch; ``factors`` has no meaning here. ``WeightsLoss``
    reads the final state of the forward pass that the loop itself makes: a hook on the final norm keeps it until the
    next call, so the model must have been called on the same batch, with gradients, just before. No global random
    numbers are used. With no term of a weight above 0 there is no head, no hook and no computation, and a call
    returns 0.0.

    Raises SpecError for a term that has no meaning on tokens, a layer that does not exist, or an unusable annotation.
    """

    calls: Tensor
    """How often the terms were computed: the step of the random streams, saved with the heads."""

    def __init__(
        self, model: nn.Module, strategy: Strategy, annotation: Annotations | None = None, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.terms = strategy.loss_terms
        self.seed = seed
        self.heads = nn.ModuleDict()
        self.last: dict[str, Tensor] = {}
        self.targets: list[Target] = []
        self._hook: RemovableHandle | None = None
        self._captured: dict[str, Tensor] = {}
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        if self.terms:
            self._decoder = (Decoder(model),)  # in a tuple: its parameters are not the helper's
            self._prepare(annotation)

    @property
    def decoder(self) -> Decoder:
        """The model, as it can be taken apart."""
        return self._decoder[0]

    @property
    def batch_keys(self) -> frozenset[str]:
        """Keys of a batch that only annotations read."""
        return frozenset(target.key for target in self.targets if target.key) - {"input_ids", "labels"}

    def forward(self, batch: Mapping[str, Tensor] | Tensor) -> Tensor | float:
        """What to add to the loss of this batch: the weighted sum of all terms, in nats; 0.0 without terms.

        ``batch``: a mapping with ``input_ids`` (B, T), or the tokens alone. Padding and tokens whose label is -100 are
        left out; so are positions of class -100.
        """
        total: Tensor | float = 0.0
        weights = {term.name: term.weight for term in self.terms}
        for name, value in self.values(batch).items():
            total = total + weights[name] * value
        return total

    def values(self, batch: Mapping[str, Tensor] | Tensor) -> dict[str, Tensor]:
        """The unweighted value of each term by name; ``last`` keeps them for logging."""
        if not self.terms:
            return {}
        final = self._captured.pop(FINAL, None)
        given = TokenBatch.of(batch)
        values = {term.name: self._value(term, given, final) for term in self.terms}
        self._captured.clear()  # normalising components goes through the final norm as well
        self.calls += 1
        self.last = {name: value.detach() for name, value in values.items()}
        return values

    def close(self) -> None:
        """Removes the hook; the model is then as if the helper had never been."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._captured.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, annotation: Annotations | None) -> None:
        embedding = self.decoder.input_embedding
        self.targets = targets_of(annotation, embedding.num_embeddings)
        for term in self.terms:
            _refuse_meaningless(term, self.targets, self.decoder)
            for target in self.targets:
                if target.read_out == "linear":
                    self.heads[_key(term, target)] = self._linear_head(term, target, embedding.weight.device)
        if any(isinstance(term, WeightsLoss) for term in self.terms):
            self._hook = self.decoder.final_norm.register_forward_hook(self._capture)

    def _linear_head(self, term: LossTerm, target: Target, device: torch.device) -> nn.Linear:
        head = nn.utils.skip_init(nn.Linear, self.decoder.width, target.n_classes)  # takes no random numbers
        initialise_linear(head, "scaled", fold(self.seed, f"head/{term.name}/{target.name}"))
        head.to(device)
        for parameter in head.parameters():
            parameter.register_post_accumulate_grad_hook(_average_over_processes)
        return head

    def _capture(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        del module, inputs
        if torch.is_grad_enabled():
            self._captured[FINAL] = output

    def _value(self, term: LossTerm, batch: TokenBatch, final: Tensor | None) -> Tensor:
        """Mean over annotations of the mean cross-entropy over tokens."""
        if isinstance(term, ComponentLoss):
            batch = batch.first(term.rows)
        classes = torch.stack([target.classes(batch) for target in self.targets], -1).flatten(0, 1)  # (B T, A)
        at = self._positions(term, batch, classes)  # (N,)
        if isinstance(term, ComponentLoss):
            tokens, positions = (one.flatten()[at] for one in (batch.tokens, batch.positions()))
            states = self.decoder.states_of_items(tokens[:, None], positions, term.cut, term.layer)[:, 0]
            states = self.decoder.normalise(states)
        else:
            states = _checked_final(final, batch.tokens).flatten(0, 1)[at]
        losses = [
            _cross_entropy(self._logits(term, target, states), wanted)
            for target, wanted in zip(self.targets, classes[at].unbind(-1), strict=True)
        ]
        return torch.stack(losses).mean()

    def _positions(self, term: LossTerm, batch: TokenBatch, classes: Tensor) -> Tensor:
        """(N,): which of the B T positions are used; one is kept where none has a class, so that gradients exist."""
        asked = (classes != IGNORED).any(-1).nonzero()[:, 0]
        if not len(asked):
            return asked.new_zeros(1)
        if not isinstance(term, ComponentLoss) or term.items is None:
            return asked
        generator = fold(self.seed, f"tokens alone/{term.name}", int(self.calls))
        drawn = _draw_distinct(batch.tokens.flatten()[asked].cpu(), term.items, generator)
        return asked[drawn.to(asked.device)]

    def _logits(self, term: LossTerm, target: Target, states: Tensor) -> Tensor:
        """(N, C) from normalised states (N, D)."""
        if target.read_out == "linear":
            head = self.heads[_key(term, target)]
            if next(head.parameters()).device != states.device:  # the model was moved after the helper was made
                head.to(states.device)
            return head(states.to(next(head.parameters()).dtype))
        if target.read_out == "input embedding":
            weight = self.decoder.input_embedding.weight
            return functional.linear(states.to(weight.dtype), weight)
        output = self.decoder.parts.head.module
        return output(states.to(next(output.parameters()).dtype))


def _draw_distinct(tokens: Tensor, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Indices into ``tokens`` (N,): distinct tokens, each at one of its places, all equally likely."""
    order = torch.randperm(len(tokens), generator=generator)
    types, type_of = tokens[order].unique(return_inverse=True)
    places = torch.arange(len(tokens))
    first = torch.full((len(types),), len(tokens)).scatter_reduce(0, type_of, places, "amin")
    return order[first[torch.randperm(len(types), generator=generator)[:n_tokens]]]


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean over the positions that have a class; 0 where none has."""
    total = functional.cross_entropy(logits.float(), classes, ignore_index=IGNORED, reduction="sum")
    return total / (classes != IGNORED).sum().clamp(min=1)


def _checked_final(final: Tensor | None, tokens: Tensor) -> Tensor:
    if final is None or final.shape[:2] != tokens.shape:
        found = "it was not" if final is None else f"it was called on {tuple(final.shape[:2])}"
        raise SpecError(
            f"WeightsLoss: the model must be called on this batch {tuple(tokens.shape)}, with gradients, just before; "
            f"{found}"
        )
    return final


def _refuse_meaningless(term: LossTerm, targets: Iterable[Target], decoder: Decoder) -> None:
    if not isinstance(term, (ComponentLoss, WeightsLoss)):
        reason = "it reads what a whole prompt hides" if type(term).__name__ == "ContextLoss" else "it needs a task"
        raise SpecError(f"{type(term).__name__}: has no meaning on tokens ({reason}); use ComponentLoss or WeightsLoss")
    if isinstance(term, WeightsLoss) and any(target.read_out == "output embedding" for target in targets):
        raise SpecError(
            "WeightsLoss: tokens read out of the final state by the output embedding are the language model's own "
            "loss; use ComponentLoss, or an annotation of classes"
        )
    try:
        term.check_model(decoder.n_layers)
    except ValueError as error:
        raise SpecError(str(error)) from error
    if isinstance(term, ComponentLoss):
        decoder.demand_meaning(term.cut)


def _average_over_processes(parameter: Tensor) -> None:
    """Heads live outside the wrappers of distributed training; what was averaged before stays as it is."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and parameter.grad is not None:
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()


def _key(term: LossTerm, target: Target) -> str:
    return f"{term.name}/{target.name}".replace(".", "_")  # module names cannot contain dots
