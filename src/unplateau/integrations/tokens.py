"""Loss terms on batches of tokens, for anybody's training loop around a causal language model.

Three lines are enough::

    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=2)), annotation=word_classes)
    optimiser = AdamW([*model.parameters(), *helper.parameters()])
    loss = model(**batch).loss + helper(batch)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
from unplateau.strategies.base import Ask, ItemStates, LabelStates, Looks, LossTerm, Read, Seen
from unplateau.strategies.strategy import Strategy
from unplateau.train.host import build_head, head_key

OF_TOKENS: tuple[Ask, ...] = ("hidden", "all", "identity")
"""What is asked of items: here each of these asks for the annotations."""
OF_PROMPTS = "has no meaning on tokens (it reads what a whole prompt hides); use ComponentLoss or WeightsLoss"
NO_PROMPTS = "tokens are no prompts: which of them are items and labels is not known"


class TokenReadOut(nn.Module):
    """Tells the annotations of a token: by a linear head for each, or by the model's own embeddings."""

    def __init__(self, decoder: Decoder, targets: Sequence[Target]) -> None:
        super().__init__()
        self.parts = decoder.parts  # no module: parameters of the model are not the head's
        self.targets = tuple(targets)
        width = self.parts.embedding.embedding_dim
        self.linear = nn.ModuleDict(
            {_key(one): nn.Linear(width, one.n_classes) for one in targets if one.read_out == "linear"}
        )

    def initialise(self, seed: int, stream: str) -> None:
        """Fills each linear head from a stream of its own."""
        for target in self.targets:
            if target.read_out == "linear":
                layer = self.linear[_key(target)]
                assert isinstance(layer, nn.Linear)
                initialise_linear(layer, "scaled", fold(seed, f"{stream}/{target.name}"))

    def loss(self, states: Tensor, classes: Tensor) -> Tensor:
        """Mean over annotations of the mean cross-entropy over tokens; ``states`` (N, D), ``classes`` (N, A)."""
        losses = []
        for target, wanted in zip(self.targets, classes.unbind(-1), strict=True):
            logits = self._logits(target, states).float()
            total = functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            losses.append(total / (wanted != IGNORED).sum().clamp(min=1))  # 0 where no position has a class
        return torch.stack(losses).mean()

    def _logits(self, target: Target, states: Tensor) -> Tensor:
        """(N, C)."""
        if target.read_out == "input embedding":
            weight = self.parts.embedding.weight
            return functional.linear(states.to(weight.dtype), weight)
        read = self.linear[_key(target)] if target.read_out == "linear" else self.parts.head.module
        return read(states.to(next(read.parameters()).dtype))


class TokenStrategy(nn.Module):
    """The loss terms of a strategy, computed on batches of tokens: a :class:`~unplateau.strategies.base.Host`.

    ``model``: the causal language model itself, not a wrapper of it. ``annotation``: see
    :mod:`~unplateau.integrations.annotation`; several by name are averaged. ``seed``: of the heads' initial weights and
    of the tokens drawn alone. ``parameters()`` are those of the heads alone (none for ``identity``, ``next`` and
    classes that are tokens: these are read out by the model's own embeddings); where the model has been moved, they
    follow at the next call. Curricula are the business of
    :class:`~unplateau.integrations.datasets.CurriculumDataset`.

    Terms see the weights component of single tokens at their own positions, without dropout; ``items``: so many
    distinct tokens of the batch. The final state is that of the loop's own forward pass: a hook on the final norm keeps
    it until the next call, so the model must have been called on the same batch, with gradients, just before. No global
    random numbers are used. With no term of a weight above 0 there is no head, no hook and no computation, and a call
    returns 0.0.

    Raises SpecError for a term that has no meaning on tokens, a layer that does not exist, or an unusable annotation.
    """

    decoder: Decoder
    """The model, as it can be taken apart."""

    calls: Tensor
    """How often the terms were computed: the step of the random streams, saved with the heads."""

    def __init__(
        self, model: nn.Module, strategy: Strategy, annotation: Annotations | None = None, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.terms, self.seed = strategy.loss_terms, seed
        self.heads = nn.ModuleDict()
        self.last: dict[str, Tensor] = {}
        self.targets: list[Target] = []
        self._head_of: dict[str, nn.Module] = {}
        self._hook: RemovableHandle | None = None
        self._final: Tensor | None = None
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        if self.terms:
            self.__dict__["decoder"] = Decoder(model)  # past nn.Module: its parameters are not the helper's
            self._prepare(annotation)

    @property
    def batch_keys(self) -> frozenset[str]:
        """Keys of a batch that only annotations read."""
        return frozenset(target.key for target in self.targets if target.key) - {"input_ids", "labels"}

    @property
    def refused(self) -> Mapping[str, str]:
        """What tokens without a task do not have, and cuts that mean nothing in this architecture."""
        name = model_type(self.decoder.model)
        refused = {
            f"cut {cut}": f"{name}: cut {cut} means nothing here: {why}" for cut, why in self.decoder.refused.items()
        }
        refused |= {"choice": OF_PROMPTS, "label": OF_PROMPTS}
        refused |= {"items": NO_PROMPTS, "labels": NO_PROMPTS, "attention": NO_PROMPTS}
        if any(target.read_out == "output embedding" for target in self.targets):
            why = (
                "tokens read out of the final state by the output embedding are the language model's own loss; use "
                "ComponentLoss, or an annotation of classes"
            )
            refused |= {f"{ask} from final": why for ask in OF_TOKENS}
        return refused

    def read_out(self, ask: Ask) -> nn.Module:
        """The annotations, whichever factors are asked for. Raises SpecError where there are none."""
        del ask
        return TokenReadOut(self.decoder, self.targets or targets_of(None, 0))

    def forward(self, batch: Mapping[str, Tensor] | Tensor) -> Tensor | float:
        """What to add to the loss of this batch: the weighted sum of all terms, in nats; 0.0 without terms.

        ``batch``: a mapping with ``input_ids`` (B, T), or the tokens alone. Padding and tokens whose label is -100 are
        left out; so are positions of class -100.
        """
        values = self.values(batch).values()
        return sum((term.weight * value for term, value in zip(self.terms, values, strict=True)), 0.0)

    def values(self, batch: Mapping[str, Tensor] | Tensor) -> dict[str, Tensor]:
        """The unweighted value of each term by name; ``last`` keeps them for logging."""
        if not self.terms:
            return {}
        final, given = self._final, TokenBatch.of(batch)
        self._final = None
        self._follow_model()
        values = {}
        for term in self.terms:
            view = _TokenView(self, term, self._head_of[term.name], given, final, int(self.calls), self.seed)
            values[term.name] = term.value(view)
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
        embedding = self.decoder.parts.embedding
        self.n_layers, self.width = self.decoder.n_layers, embedding.embedding_dim
        if annotation is not None or any(term.asks for term in self.terms):
            self.targets = targets_of(annotation, embedding.num_embeddings)
        for term in self.terms:
            with placed():
                term.check_host(self)
            self._add_head(term)
        self._follow_model()
        for parameter in self.heads.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_average_over_processes)
        if any("final" in term.reads for term in self.terms):
            self._hook = self.decoder.parts.final_norm.register_forward_hook(self._capture)

    def _add_head(self, term: LossTerm) -> None:
        """``heads`` has the layers of a read-out by term and annotation, any other head by its term."""
        head = self._head_of[term.name] = build_head(term, self, init="scaled", seed=self.seed)
        if isinstance(head, TokenReadOut):
            head.initialise(self.seed, f"head/{term.name}")
            self.heads.update({head_key(f"{term.name}{name}"): layer for name, layer in head.linear.items()})
        else:
            self.heads[head_key(term.name)] = head

    def _follow_model(self) -> None:
        """Heads are where the model is, also if it was moved after the helper was made."""
        device = self.decoder.parts.embedding.weight.device
        if any(tensor.device != device for tensor in chain(self.heads.parameters(), self.heads.buffers())):
            self.heads.to(device)

    def _capture(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        del module, inputs
        if torch.is_grad_enabled():
            self._final = output


@dataclass(frozen=True)
class _TokenView:
    """One step of one term; ``kept`` (B, T, D) is what the loop's own pass left at the final norm."""

    helper: TokenStrategy
    term: LossTerm
    head: Any
    batch: TokenBatch
    kept: Tensor | None
    step: int
    seed: int

    def final(self, ask: Ask = "hidden") -> Seen:
        """At the tokens that have a class."""
        self._check("final", ask, self.helper.n_layers)
        shape = tuple(self.batch.counted.shape)
        if self.kept is None or self.kept.shape[:2] != shape:
            found = "it was not" if self.kept is None else f"it was called on {tuple(self.kept.shape[:2])}"
            raise self._error(f"the model must be called on this batch {shape}, with gradients, just before; {found}")
        classes, at = self._asked(self.batch)
        return self._seen(self.kept.flatten(0, 1)[at], classes, at)

    @property
    def n_layers(self) -> int:
        """Of the model."""
        return self.helper.n_layers

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Of single tokens at their own positions; ``items``: so many distinct tokens of the batch."""
        self._check("weights", ask, layer)
        decoder, batch = self.helper.decoder, self.batch.first(rows)
        classes, at = self._asked(batch)
        if items is not None:
            generator = fold(self.seed, f"tokens alone/{self.term.name}", self.step)
            drawn = _draw_distinct(batch.prompts.tokens.flatten()[at].cpu(), items, generator)
            at = at[drawn.to(at.device)]
        tokens, positions = (one.flatten()[at] for one in (batch.prompts.tokens, batch.prompts.positions()))
        states = decoder.normalise(decoder.component_alone(tokens[:, None], positions, cut, layer))
        return self._seen(states, classes, at)

    def items(self, layer: int, *, rows: int | None = None, elsewhere: bool = False) -> ItemStates:  # noqa: ARG002
        raise self._error(NO_PROMPTS)

    def labels(self, layer: int, *, rows: int | None = None) -> LabelStates:  # noqa: ARG002
        raise self._error(NO_PROMPTS)

    def attention(self, layer: int, *, rows: int | None = None) -> Looks:  # noqa: ARG002
        raise self._error(NO_PROMPTS)

    def _check(self, read: Read, ask: Ask, layer: int) -> None:
        self.term.check_view(read, ask, layer, self.helper.n_layers)
        if ask not in OF_TOKENS:
            raise self._error(OF_PROMPTS)

    def _error(self, what: str) -> SpecError:
        return SpecError(f"{type(self.term).__name__}: {what}")

    def _asked(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Classes (B T, A), and the positions (N,) that have any: all that count, where there are no annotations."""
        wanted = batch.counted.flatten()
        classes = wanted.new_empty(len(wanted), 0, dtype=torch.int64)
        if self.helper.targets:
            classes = torch.stack([target.classes(batch) for target in self.helper.targets], -1).flatten(0, 1)
            wanted = (classes != IGNORED).any(-1)
        at = wanted.nonzero()[:, 0]
        return classes, at if len(at) else at.new_zeros(1)  # one is kept, so that gradients exist

    def _seen(self, states: Tensor, classes: Tensor, at: Tensor) -> Seen:
        """States in the precision of the head, so that any module will do as one."""
        dtype = next((one.dtype for one in self.head.parameters() if one.is_floating_point()), states.dtype)
        return Seen(states.to(dtype), classes[at], at // self.batch.counted.shape[1])


def _draw_distinct(tokens: Tensor, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Indices into ``tokens`` (N,): distinct tokens, each at one of its places, all equally likely."""
    order = torch.randperm(len(tokens), generator=generator)
    types, type_of = tokens[order].unique(return_inverse=True)
    places = torch.arange(len(tokens))
    first = torch.full((len(types),), len(tokens)).scatter_reduce(0, type_of, places, "amin")
    return order[first[torch.randperm(len(types), generator=generator)[:n_tokens]]]


def _average_over_processes(parameter: Tensor) -> None:
    """Heads live outside the wrappers of distributed training; what was averaged before stays as it is."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and parameter.grad is not None:
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()


def _key(target: Target) -> str:
    """The name of an annotation's head; the slash joins it to the name of the term."""
    return head_key(f"/{target.name}")
