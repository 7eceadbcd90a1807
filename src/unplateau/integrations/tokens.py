"""Loss terms on batches of tokens, for anybody's training loop around a causal language model.

Three lines are enough::

    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=2)), annotation=word_classes)
    optimiser = AdamW([*model.parameters(), *helper.parameters()])
    loss = model(**batch).loss + helper(batch)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from unplateau.config import placed
from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Annotations, Target, TokenBatch, targets_of
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.parts import model_type
from unplateau.layout import Cut
from unplateau.models.initialise import initialise_linear
from unplateau.rng import fold
from unplateau.strategies.base import Ask, LossTerm, Seen, Strategy
from unplateau.train.host import build_head

OF_TOKENS: tuple[Ask, ...] = ("hidden", "all", "identity")
"""What is asked of items: here each of these asks for the annotations."""
OF_PROMPTS = "has no meaning on tokens (it reads what a whole prompt hides); use ComponentLoss or WeightsLoss"
LABELS = "TokenStrategy does not show the states of labels: which tokens are labels is not known"
OWN_LOSS = (
    "tokens read out of the final state by the output embedding are the language model's own loss; use ComponentLoss, "
    "or an annotation of classes"
)


class TokenReadOut(nn.Module):
    """Tells the annotations of a token: by a linear head for each, or by the model's own embeddings."""

    def __init__(self, decoder: Decoder, targets: Sequence[Target]) -> None:
        super().__init__()
        self._decoder = (decoder,)  # in a tuple: its parameters are not the head's
        self.targets = tuple(targets)
        width = decoder.parts.embedding.embedding_dim
        self.linear = nn.ModuleDict(
            {_linear(target): nn.Linear(width, target.n_classes) for target in targets if target.read_out == "linear"}
        )

    def initialise(self, seed: int, stream: str) -> None:
        """Fills each linear head from a stream of its own."""
        for target in self.targets:
            if target.read_out == "linear":
                layer = self.linear[_linear(target)]
                assert isinstance(layer, nn.Linear)
                initialise_linear(layer, "scaled", fold(seed, f"{stream}/{target.name}"))

    def loss(self, states: Tensor, classes: Tensor) -> Tensor:
        """Mean over annotations of the mean cross-entropy over tokens; ``states`` (N, D), ``classes`` (N, A)."""
        losses = [
            _cross_entropy(self._logits(target, states), wanted)
            for target, wanted in zip(self.targets, classes.unbind(-1), strict=True)
        ]
        return torch.stack(losses).mean()

    def _logits(self, target: Target, states: Tensor) -> Tensor:
        """(N, C)."""
        parts = self._decoder[0].parts
        if target.read_out == "input embedding":
            weight = parts.embedding.weight
            return functional.linear(states.to(weight.dtype), weight)
        read = self.linear[_linear(target)] if target.read_out == "linear" else parts.head.module
        return read(states.to(next(read.parameters()).dtype))


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
        self._final: Tensor | None = None
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_names_of_older_versions)  # type: ignore[no-untyped-call]
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

    @property
    def n_layers(self) -> int:
        """Number of blocks (L)."""
        return self.decoder.n_layers

    @property
    def width(self) -> int:
        """Width of the hidden state (D)."""
        return self.decoder.parts.embedding.embedding_dim

    @property
    def refused(self) -> Mapping[str, str]:
        """What tokens without a task do not have, and cuts that mean nothing in this architecture."""
        name = model_type(self.decoder.model)
        refused = {cut: f"{name}: cut {cut} means nothing here: {why}" for cut, why in self.decoder.refused.items()}
        refused |= {"choice": OF_PROMPTS, "label": OF_PROMPTS, "labels": LABELS}
        if any(target.read_out == "output embedding" for target in self.targets):
            refused |= {f"{ask} from final": OWN_LOSS for ask in OF_TOKENS}
        return refused

    def read_out(self, ask: Ask) -> nn.Module:
        """The annotations, whichever factors are asked for."""
        del ask
        return TokenReadOut(self.decoder, self.targets)

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
        final, given = self._final, TokenBatch.of(batch)
        self._follow_model()
        values = {term.name: term.value(self._view(term, given, final)) for term in self.terms}
        self._final = None  # normalising components goes through the final norm as well
        self.calls += 1
        self.last = {name: value.detach() for name, value in values.items()}
        return values

    def close(self) -> None:
        """Removes the hook; the model is then as if the helper had never been."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._final = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, annotation: Annotations | None) -> None:
        if annotation is not None or any(term.asks for term in self.terms):
            self.targets = targets_of(annotation, self.decoder.parts.embedding.num_embeddings)
        for term in self.terms:
            with placed():
                term.check_host(self)
            head = build_head(term, self, init="scaled", seed=self.seed)
            if isinstance(head, TokenReadOut):
                head.initialise(self.seed, f"head/{term.name}")
            self.heads[_key(term.name)] = head
        self._follow_model()
        for parameter in self.heads.parameters():
            parameter.register_post_accumulate_grad_hook(_average_over_processes)
        if any("final" in term.reads for term in self.terms):
            self._hook = self.decoder.parts.final_norm.register_forward_hook(self._capture)

    def _follow_model(self) -> None:
        """Heads are where the model is, also if it was moved after the helper was made."""
        device = self.decoder.parts.embedding.weight.device
        if any(parameter.device != device for parameter in self.heads.parameters()):
            self.heads.to(device)

    def _view(self, term: LossTerm, batch: TokenBatch, final: Tensor | None) -> _TokenView:
        return _TokenView(self, term.name, self.heads[_key(term.name)], batch, final, int(self.calls), self.seed)

    def _capture(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        del module, inputs
        if torch.is_grad_enabled():
            self._final = output


@dataclass(frozen=True)
class _TokenView:
    """One step of one term; ``final`` (B, T, D) is what the loop's own pass left at the final norm."""

    helper: TokenStrategy
    term: str
    head: Any
    batch: TokenBatch
    final_states: Tensor | None
    step: int
    seed: int

    def final(self, ask: Ask = "hidden") -> Seen:
        """At the tokens that have a class."""
        self._refuse(ask)
        states = _checked_final(self.final_states, self.batch.tokens).flatten(0, 1)
        classes = self._classes(self.batch)
        at = self._asked(self.batch, classes)
        return Seen(states[at], classes[at], at // self.batch.tokens.shape[1])

    def labels(self, block: int, *, rows: int | None = None) -> Seen:  # noqa: ARG002
        """Refused."""
        raise SpecError(f"{self.term}: {LABELS}")

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Of single tokens at their own positions; ``items``: so many distinct tokens of the batch."""
        self._refuse(ask)
        decoder, batch = self.helper.decoder, self.batch.first(rows)
        classes = self._classes(batch)
        at = self._asked(batch, classes)
        if items is not None:
            generator = fold(self.seed, f"tokens alone/{self.term}", self.step)
            drawn = _draw_distinct(batch.tokens.flatten()[at].cpu(), items, generator)
            at = at[drawn.to(at.device)]
        tokens, positions = (one.flatten()[at] for one in (batch.tokens, batch.positions()))
        states = decoder.normalise(decoder.component_alone(tokens[:, None], positions, cut, layer))
        return Seen(states, classes[at], at // batch.tokens.shape[1])

    def _refuse(self, ask: Ask) -> None:
        if ask not in OF_TOKENS:
            raise SpecError(f"{self.term}: {OF_PROMPTS}")

    def _classes(self, batch: TokenBatch) -> Tensor:
        """(B T, A)."""
        classes = [target.classes(batch) for target in self.helper.targets]
        shape = (*batch.tokens.shape, 0)
        return (torch.stack(classes, -1) if classes else batch.tokens.new_empty(shape)).flatten(0, 1)

    def _asked(self, batch: TokenBatch, classes: Tensor) -> Tensor:
        """(N,): which of the B T positions are used; one is kept where none has a class, so that gradients exist."""
        wanted = (classes != IGNORED).any(-1) if classes.shape[1] else batch.counted.flatten()
        asked = wanted.nonzero()[:, 0]
        return asked if len(asked) else asked.new_zeros(1)


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


def _average_over_processes(parameter: Tensor) -> None:
    """Heads live outside the wrappers of distributed training; what was averaged before stays as it is."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and parameter.grad is not None:
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()


def _names_of_older_versions(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """``heads.component-loss/class.weight`` is ``heads.component-loss.linear.to class.weight`` today."""
    del module
    for name in [name for name in state if name.startswith(f"{prefix}heads.") and "/" in name]:
        term, rest = name.split("/", 1)
        state[f"{term}.linear.to {rest}"] = state.pop(name)


def _linear(target: Target) -> str:
    """The name of an annotation's head, which must be that of no attribute of a module, such as ``type``."""
    return f"to {_key(target.name)}"


def _key(name: str) -> str:
    return name.replace(".", "_")  # module names cannot contain dots
