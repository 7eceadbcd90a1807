"""Loss terms on batches of tokens, for anybody's training loop around a causal language model.

Three lines are enough::

    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=2)), annotation=word_classes)
    optimiser = AdamW([*model.parameters(), *helper.parameters()])
    loss = model(**batch).loss + helper(batch)
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Annotations, Target, TokenBatch, targets_of
from unplateau.integrations.blocks import PASSES_KEPT, BlockRecorder, Pass
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.parts import model_type
from unplateau.integrations.huggingface.passes import forget_compiled
from unplateau.integrations.pairs import Pairs, Positions, find_pairs, located, text_pairs
from unplateau.integrations.terms import LossTerms, mean_over_processes
from unplateau.integrations.token_view import OF_PAIRS, OF_PROMPTS, OF_TOKENS, TokenView
from unplateau.models.initialise import initialise_linear
from unplateau.rng import fold
from unplateau.strategies.base import Ask, LossTerm
from unplateau.strategies.strategy import Strategy
from unplateau.train.host import head_key

ON_OTHERS = "the model must be called on this batch just before; it was called on other tokens"
OF_THE_MODEL = frozenset({"input_ids", "labels"})
"""Keys of a batch that a language model reads itself."""


class TokenReadOut(nn.Module):
    """Tells the annotations of a token: by a linear head for each, or by the model's own embeddings."""

    def __init__(self, decoder: Decoder, targets: Sequence[Target]) -> None:
        super().__init__()
        self.parts = decoder.parts  # no module: parameters of the model are not the head's
        self.targets = tuple(targets)
        width = self.parts.embedding.embedding_dim
        self.shares: Tensor | None = None
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
        """Mean over annotations of the mean cross-entropy over tokens; ``states`` (N, D), ``classes`` (N, A).

        Each annotation counts as much as ``shares`` (A,) says, if they are set.
        """
        losses = []
        for target, wanted in zip(self.targets, classes.unbind(-1), strict=True):
            logits = self._logits(target, states).float()
            total = functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            losses.append(total / (wanted != IGNORED).sum().clamp(min=1))  # 0 where no position has a class
        found = torch.stack(losses)
        return (found if self.shares is None else found * self.shares.to(found)).mean()

    def _logits(self, target: Target, states: Tensor) -> Tensor:
        """(N, C)."""
        if target.read_out == "input embedding":
            weight = self.parts.token_matrix()
            return functional.linear(states.to(weight.dtype), weight)
        read = self.linear[_key(target)] if target.read_out == "linear" else self.parts.head.module
        return read(states.to(next(read.parameters()).dtype))


class TokenStrategy(LossTerms):
    """The loss terms of a strategy, computed on batches of tokens: a :class:`~unplateau.strategies.base.Host`.

    ``model``: the causal language model, or what only calls it, as for a Decoder. ``annotation``: see
    :mod:`~unplateau.integrations.annotation`; several by name are averaged. ``items``, ``labels``: where the last token
    of each item and its label stand, if the tokens are prompts, see :data:`~unplateau.integrations.pairs.Positions`;
    what stands between a label and the next one but for this is the item. Without them the tokens are text, in which
    every token is the label of the one before: BindLoss asks which token stood before, KeepLoss which it is itself,
    LookLoss to look at what followed earlier copies of a token where that follows again. ``seed``: of the heads'
    initial weights and of the tokens drawn alone. ``parameters()`` are those of the heads alone (none for ``identity``,
    ``next`` and classes that are tokens: these are read out by the model's own embeddings); where the model has been
    moved, they follow at the next call. Curricula are the business of
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

    def __init__(
        self,
        model: nn.Module,
        strategy: Strategy | str,
        annotation: Annotations | None = None,
        *,
        items: Positions | None = None,
        labels: Positions | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(strategy, seed)
        self.targets: list[Target] = []
        self.recorder: BlockRecorder | None = None
        self._hooks: list[RemovableHandle] = []
        self._finals: deque[tuple[Tensor | None, Tensor]] = deque(maxlen=PASSES_KEPT)  # tokens, states
        self._tokens: Tensor | None = None
        if (items is None) != (labels is None):
            raise SpecError("items, labels: give both, or none")
        self.places = {} if items is None or labels is None else {"items": items, "labels": labels}
        if self.terms:
            self.__dict__["decoder"] = Decoder(model)  # past nn.Module: its parameters are not the helper's
            self._prepare(annotation)

    @property
    def batch_keys(self) -> frozenset[str]:
        """Keys of a batch that only annotations read."""
        keys = {target.key for target in self.targets if target.key}
        return frozenset(keys | {where for where in self.places.values() if isinstance(where, str)}) - OF_THE_MODEL

    @property
    def refused(self) -> Mapping[str, str]:
        """What tokens without a task do not have, and cuts that mean nothing in this architecture."""
        name = model_type(self.decoder.model)
        refused = {
            f"cut {cut}": f"{name}: cut {cut} means nothing here: {why}" for cut, why in self.decoder.refused.items()
        }
        refused |= {"choice": OF_PROMPTS, "label": OF_PROMPTS}
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

    def forward(
        self, batch: Mapping[str, Tensor] | Tensor, shares: Mapping[str, Tensor] | None = None
    ) -> Tensor | float:
        """What to add to the loss of this batch: the weighted sum of all terms, in nats; 0.0 without terms.

        ``batch``: a mapping with ``input_ids`` (B, T), or the tokens alone. Padding and tokens whose label is -100 are
        left out; so are positions of class -100. ``shares``: of this micro-batch in its update, see :meth:`shares`.
        """
        return self._weighted(self.values(batch, shares))

    def shares(self, batches: Sequence[Mapping[str, Tensor] | Tensor]) -> list[dict[str, Tensor]]:
        """How much each micro-batch of an update counts in it, by the name of the term.

        With them, the terms of the micro-batches sum up to what the term is on all rows at once, however these are cut,
        if it reads all rows of a batch. Over several processes, whose gradients are averaged, the same holds.
        """
        counts = [{term.name: self._count(term, TokenBatch.of(batch)) for term in self.terms} for batch in batches]
        found: list[dict[str, Tensor]] = [{} for _ in batches]
        for term in self.terms:
            own = torch.stack([count[term.name] for count in counts]).to(self.calls.device, torch.float32)  # (N, A)
            total = mean_over_processes(own.sum(0)).clamp(min=1)
            for number, share in enumerate(own / total):
                found[number][term.name] = share
        return found

    def values(
        self, batch: Mapping[str, Tensor] | Tensor, shares: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The unweighted value of each term by name; ``last`` keeps them for logging."""
        if not self.terms or self._let_go():
            self._finals.clear()
            return {}
        given = TokenBatch.of(batch)
        final = self._final_of(given.prompts.tokens)
        self._follow(self.decoder.parts.embedding.weight.device)
        done = None if self.recorder is None else self._done(self.recorder, given)
        pairs = self._pairs(given) if any(OF_PAIRS & set(term.reads) for term in self.terms) else None
        self._share_out(shares)
        values = self._compute(
            lambda term, head: TokenView(
                self.decoder,
                self.targets,
                self.recorder,
                term,
                head,
                given,
                final,
                done,
                pairs,
                not self.places,
                int(self.calls),
                self.seed,
            )
        )
        self._share_out(None)
        if shares is not None:
            own = [name for name in values if not isinstance(self._head_of[name], TokenReadOut)]
            values |= {name: values[name] * shares[name].to(values[name]).squeeze() for name in own}
            self.last = {name: value.detach() for name, value in values.items()}
        self._finals.clear()  # normalising components goes through the final norm as well
        return values

    def close(self) -> None:
        """Removes the hooks; the model is then as if the helper had never been."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self.recorder is not None:
            self.recorder.close()
        self._finals.clear()

    def _prepare(self, annotation: Annotations | None) -> None:
        embedding = self.decoder.parts.embedding
        self.n_layers, self.width = self.decoder.n_layers, embedding.embedding_dim
        if annotation is not None or any(term.asks for term in self.terms):
            self.targets = targets_of(annotation, embedding.num_embeddings)
        self._add_heads(embedding.weight.device)
        if any("final" in term.reads for term in self.terms):
            parts = self.decoder.parts
            self._hooks = [
                parts.backbone.register_forward_pre_hook(self._note_tokens, with_kwargs=True),
                parts.final_norm.register_forward_hook(self._capture),
            ]
            forget_compiled()
        if any({"labels", "attention"} & set(term.reads) for term in self.terms):
            self.recorder = BlockRecorder(self.decoder.model, list(self.decoder.parts.block_list))

    def _add_head(self, term: LossTerm) -> None:
        """``heads`` has the layers of a read-out by term and annotation, any other head by its term."""
        super()._add_head(term)
        head = self._head_of[term.name]
        if isinstance(head, TokenReadOut):
            del self.heads[head_key(term.name)]
            head.initialise(self.seed, f"head/{term.name}")
            self.heads.update({head_key(f"{term.name}{name}"): layer for name, layer in head.linear.items()})

    def _share_out(self, shares: Mapping[str, Tensor] | None) -> None:
        """Read-outs divide by what their annotations have in the whole update."""
        for name, head in self._head_of.items():
            if isinstance(head, TokenReadOut):
                head.shares = None if shares is None else shares.get(name)

    def _count(self, term: LossTerm, batch: TokenBatch) -> Tensor:
        """(A,) or (1,): how many things a term is a mean over in this batch."""
        if isinstance(self._head_of[term.name], TokenReadOut):
            return torch.stack([(target.classes(batch) != IGNORED).sum() for target in self.targets])
        if not OF_PAIRS & set(term.reads):
            return batch.counted.sum()[None]
        pairs, tokens = self._pairs(batch), batch.prompts.tokens
        if "labels" in term.reads:
            return pairs.has_label.sum()[None]
        n_labels = pairs.labels.shape[1]
        labels, seen = tokens.gather(1, pairs.labels), pairs.seen()[:, :n_labels]
        if "attention" in term.reads and not self.places:
            seen = seen & (tokens[:, :-1, None] == tokens[:, None, :-1])
        return (seen & (labels[:, :, None] == labels[:, None])).any(-1).sum()[None]

    def _done(self, recorder: BlockRecorder, given: TokenBatch) -> Pass:
        """What the loop's own pass over this batch left in the blocks."""
        tokens = given.prompts.tokens
        done = recorder.take(lambda one: _is_on(one, tokens))
        shape, called = tuple(given.counted.shape), tuple(recorder.states(done, 0).shape[:2])
        if called != shape:
            raise SpecError(f"the model must be called on this batch {shape} just before; it was called on {called}")
        if not _is_on(done, tokens):
            raise SpecError(ON_OTHERS)
        return done

    def _pairs(self, given: TokenBatch) -> Pairs:
        """Where the items and labels of the batch stand; padding has none."""
        tokens, mask = given.prompts.tokens, given.prompts.mask
        if not self.places:
            return text_pairs(torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask, given.documents)
        n_rows, n_positions = tokens.shape
        items, labels = (
            located(where, name, n_rows, n_positions, partial(_asked, where, given))
            for name, where in self.places.items()
        )
        pairs = find_pairs(items, labels, n_rows, tokens.device).within(given.documents)
        if not pairs.apart:
            raise SpecError("items, labels: a label is a token of its own, behind those of its item")
        return pairs if mask is None else pairs.only(mask)

    def _final_of(self, tokens: Tensor) -> Tensor | None:
        """The states that the newest pass over these tokens left at the final norm; None without a pass."""
        kept = [*reversed(self._finals)]
        self._finals.clear()
        found = next((states for own, states in kept if own is None or _are_same(own, tokens)), None)
        if found is None and kept and kept[0][1].shape[:2] == tokens.shape:
            raise SpecError(ON_OTHERS)
        return kept[0][1] if found is None and kept else found

    def _note_tokens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        self._tokens = None if torch.compiler.is_compiling() else kwargs.get("input_ids", args[0] if args else None)

    def _capture(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        del module, inputs
        if torch.is_grad_enabled():
            self._finals.append((self._tokens, output))


def _is_on(done: Pass, tokens: Tensor) -> bool:
    """Whether the model was called on these tokens, as far as the pass tells, which a compiled one does not."""
    if done.given is None:
        return True
    args, kwargs = done.given
    own = kwargs.get("input_ids", args[0] if args else None)
    return not isinstance(own, Tensor) or _are_same(own, tokens)


def _are_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and (one.data_ptr() == other.data_ptr() or torch.equal(one.to(other.device), other))


def _asked(where: Any, batch: TokenBatch) -> Any:
    """What a function makes of the batch, or what it has under this name. Raises SpecError if there is none."""
    if callable(where):
        return where(batch.given)
    if where not in batch.given:
        raise SpecError(f"the batch has no '{where}'; it has {', '.join(sorted(batch.given))}")
    return batch.given[where]


def _key(target: Target) -> str:
    """The name of an annotation's head; the slash joins it to the name of the term."""
    return head_key(f"/{target.name}")
