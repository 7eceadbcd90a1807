"""Loss terms in anybody's training of anybody's Transformer on prompts x_1 y_1 x_2 y_2 ...

Three lines are enough::

    helper = PromptStrategy(model, blocks="backbone.h", items=slice(0, None, 2), labels=slice(1, None, 2))
    optimiser = Adam([*model.parameters(), *helper.parameters()])
    loss = criterion(model(xs, ys), ys) + helper(xs, ys)

Legend: B prompts, R the first of them, M items, K labels, V items whose label is known, T positions, D width, H heads.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unplateau.errors import SpecError
from unplateau.integrations.blocks import BlockRecorder, Pass, find_blocks, width_of
from unplateau.integrations.calls import Call, one_pair_each, rows_second
from unplateau.integrations.huggingface.passes import untouched
from unplateau.integrations.huggingface.wrappers import unwrapped
from unplateau.integrations.labels import Reading, find_labels, reading_of
from unplateau.integrations.pairs import Positions, find_pairs, located
from unplateau.integrations.perturbation import Perturbation
from unplateau.integrations.prompt_view import PromptBatch, PromptView
from unplateau.integrations.terms import LossTerms
from unplateau.strategies.base import Ask
from unplateau.strategies.strategy import Strategy

NOT_ANNOTATED = "prompts of any module have no annotation to ask for; use MatchLoss, BindLoss, KeepLoss or LookLoss"
logger = logging.getLogger(__name__)


class PromptStrategy(LossTerms):
    """The loss terms of a strategy on prompts that any module reads: a :class:`~unplateau.strategies.base.Host`.

    ``blocks``: dotted name of the ``ModuleList`` or ``Sequential`` of the model's blocks, or of what holds it, or the
    blocks themselves. ``strategy``: a value or a name. ``items``, ``labels``: where items and labels stand, see
    :data:`~unplateau.integrations.pairs.Positions`; items behind the last label are queries. ``values``: a function of
    what the model is called with, or the name of an argument of the helper's own, that gives labels, (B, K) or, with
    those of the queries, (B, M), see :func:`~unplateau.integrations.labels.reading_of`; by default they are found among
    the arguments. ``alone(layer, *args, **kwargs)``: states (R, M, D) of the items, none seeing another, after so many
    blocks; by default the model's own pass on prompts of one pair.
    ``attention(layer, *args, **kwargs)``: shares (R, H, T, T) of a block; by default those of PyTorch's functions that
    it calls. ``batch_first``: whether the states of the blocks are (B, T, D) or (T, B, D). ``states``: makes them of
    what a block takes and returns, where that has more dimensions. ``seed``: of the heads.

    Call it with what the model was called with, right after the model, and by name with what only these functions
    take; rows come first in every tensor, or second in all. The first call finds out, by changing a label, whether
    positions are what was said and whether they are read in both directions. Items alone are seen without dropout, and
    global random numbers are not used. Without gradients, or with no term of a weight above 0, a call returns 0.0; in
    the second case there is no head, no hook and no computation.

    Raises SpecError for blocks or positions that do not exist, for a term that needs annotation, for labels that
    cannot be read, and for a model that is not causal where ``alone`` is not given.
    """

    def __init__(  # noqa: PLR0913 (each says one thing of somebody else's model)
        self,
        model: nn.Module,
        strategy: Strategy | str = "unplateau",
        *,
        blocks: str | Sequence[nn.Module],
        items: Positions,
        labels: Positions,
        values: str | Callable[..., Tensor] | None = None,
        alone: Callable[..., Tensor] | None = None,
        attention: Callable[..., Tensor] | None = None,
        batch_first: bool = True,
        states: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(strategy, seed)
        self.places = {"items": items, "labels": labels}
        self.functions = {"values": values, "alone": alone, "attention": attention}
        self.recorder: BlockRecorder | None = None
        self.both_ways: bool | None = None
        self.rows_second: bool | None = None
        self.source: tuple[str, bool] | None = None
        self.reading: Reading | None = None
        if self.terms:
            model = unwrapped(model)
            found = find_blocks(model, blocks)
            self.n_layers, self.width = len(found), width_of(found[0])
            self.own_names = {where for where in (items, labels, values) if isinstance(where, str)}
            self.parameters_of_model = inspect.signature(model.forward).parameters
            self._add_heads(next(model.parameters()).device)
            self.recorder = BlockRecorder(model, found, batch_first=batch_first, shown=states)

    @property
    def refused(self) -> Mapping[str, str]:
        """What only an annotation tells, and cuts other than an item shown alone."""
        refused = dict.fromkeys(("hidden", "all", "identity", "choice", "label"), NOT_ANNOTATED)
        return refused | {f"cut {cut}": f"cut {cut} means nothing in any module" for cut in ("identity", "zero")}

    def read_out(self, ask: Ask) -> nn.Module:
        """There is nothing to read out: raises SpecError."""
        raise SpecError(f"read-out of '{ask}': {NOT_ANNOTATED}")

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | float:
        """What to add to the loss of this batch, in nats; 0.0 without terms, and without gradients."""
        return self._weighted(self.values(*args, **kwargs)) if torch.is_grad_enabled() else 0.0

    def values(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The unweighted value of each term by name; ``last`` keeps them for logging."""
        if self.recorder is None or self._let_go():
            return {}
        batch = self._read(self.recorder, self.recorder.take(), Call(args, kwargs))
        self._follow(batch.states(0).device)
        return self._compute(lambda term, head: PromptView(batch, term, head, int(self.calls), self.seed))

    def close(self) -> None:
        """Removes the hooks."""
        if self.recorder is not None:
            self.recorder.close()

    def _read(self, recorder: BlockRecorder, done: Pass, call: Call) -> PromptBatch:
        """Where things stand in this batch, what the labels are, and, the first time, whether that is so."""
        n_rows, n_positions, width = recorder.states(done, 0).shape
        if width != self.width:
            raise SpecError(f"blocks: states have width {width}, but most parameters of block 1 have {self.width}")
        given = Call(call.args, {name: one for name, one in call.kwargs.items() if self._is_models(name)})
        if done.given is not None:  # which a compiled model does not tell
            given = _same_batch(Call(*done.given), given)
        if self.rows_second is None:
            self.rows_second = rows_second(given, n_rows)
        if self.rows_second:
            given, call = given.turn(), call.turn()
        items, labels = (
            located(where, name, n_rows, n_positions, partial(_asked, where, call))
            for name, where in self.places.items()
        )
        pairs = find_pairs(items, labels, n_rows, recorder.states(done, 0).device)
        batch = PromptBatch(self.functions, recorder, done, given, call, pairs, torch.empty(0), {})
        found = self._labels(batch)
        if self.reading is None:
            name = self.source[0] if self.source else "values"
            reading = reading_of(found, name)
            self._check(batch)
            self.reading = reading
            order = "both ways" if self.both_ways else "causally"
            logger.info("prompts of %d pairs are read %s; labels: %s, %s", found.shape[1], order, name, self.reading)
        pairs = replace(pairs, both_ways=bool(self.both_ways))
        values = self.reading(found)
        if values.is_floating_point():  # padding is no label: it stands at the mean
            known = pairs.has_item[:, : values.shape[1]]
            values = torch.where(known, values, values[known].mean())
        return replace(batch, pairs=pairs, values=values)

    def _is_models(self, name: str) -> bool:
        """Whether an argument of this name is the model's, and not one for the functions given to the helper alone."""
        parameters = self.parameters_of_model
        takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        return name in parameters or (takes_any and name not in self.own_names)

    def _labels(self, batch: PromptBatch) -> Tensor:
        """(B, V) or (B, V, C): the labels as they are given."""
        pairs, n_positions = batch.pairs, batch.states(0).shape[1]
        n_rows, n_labels = pairs.labels.shape
        if self.functions["values"] is not None:
            found = _asked(self.functions["values"], batch.asked)
            shapes = [(n_rows, one) for one in (n_labels, pairs.items.shape[1])]
            if not isinstance(found, Tensor) or found.ndim not in (2, 3) or found.shape[:2] not in shapes:
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise SpecError(f"values: needs labels {shapes[0]}, one for each pair; got {got}")
            return found.to(pairs.items.device)
        tensors = batch.call.tensors(batch.recorder.model)
        if self.source is None:
            self.source = find_labels(tensors, pairs, n_positions)
        name, by_position = self.source
        found = tensors.get(name)
        wanted = (n_positions,) if by_position else (n_labels, pairs.items.shape[1])
        if found is None or found.ndim not in (2, 3) or found.shape[1] not in wanted:
            got = "is missing" if found is None else f"is {tuple(found.shape)}"
            raise SpecError(f"values: labels were found in '{name}' before; now it {got}")
        found = found.to(pairs.items.device)
        return found[torch.arange(n_rows, device=found.device)[:, None], pairs.labels] if by_position else found

    def _check(self, batch: PromptBatch) -> None:
        """Looks, once, at what the model reads. Raises SpecError where it is not what was said."""
        recorder, n_positions = batch.recorder, batch.states(0).shape[1]
        with untouched(recorder.model):
            perturbed = Perturbation.of(recorder, batch.run, batch.call, batch.pairs)
            reader = perturbed.earliest_reader()
            self.both_ways = reader is not None
            if self.source is not None:
                name, by_position = self.source
                labels = perturbed.call.tensors(recorder.model)[name]
                perturbed.check_label(name, labels, by_position=by_position, both_ways=self.both_ways)
            items_read = any({"items", "labels", "weights"} & set(term.reads) for term in self.terms)
            if self.functions["alone"] is not None or not items_read:
                return
            why = None if batch.pairs.apart else "items and labels share their positions"
            if reader is not None:
                why = f"after the last block, position {reader} depends on a label behind it (not causal)"
            if why is not None:
                raise SpecError(f"an item alone is no prompt of one pair here, so give alone=: {why}")
            perturbed.check_first(lambda call, pairs: one_pair_each(call, pairs, n_positions))


def _asked(where: Any, call: Call) -> Any:
    """What a function makes of the call, or its argument of this name. Raises SpecError if there is none."""
    if callable(where):
        return call.of(where)
    if where not in call.kwargs:
        raise SpecError(f"the helper's call has no '{where}'; it has {', '.join(call.kwargs) or 'no named arguments'}")
    return call.kwargs[where]


def _same_batch(theirs: Call, ours: Call) -> Call:
    """What the model was called with. Raises SpecError if the helper is given a tensor that is not among it."""
    tensors = theirs.leaves()
    for one in ours.leaves():
        alike = (other for other in tensors if other.shape == one.shape and other.dtype == one.dtype)
        if not any(other.data_ptr() == one.data_ptr() or torch.equal(other, one.to(other.device)) for other in alike):
            shape = tuple(one.shape)
            raise SpecError(f"the model must be called on this batch just before; it was not given this tensor {shape}")
    return theirs
