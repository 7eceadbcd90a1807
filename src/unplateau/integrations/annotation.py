"""What a weights component must predict at each token: classes of tokens, or, without labels, tokens themselves.

Annotations know nothing of models and losses, so that scores can use them as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.errors import SpecError, suggest
from unplateau.integrations.packing import BOUNDS, packing_of
from unplateau.tensors import TokenPrompts

IGNORED = -100
"""The class of a position that has none, as in PyTorch's cross-entropy."""
LabelFree = Literal["identity", "next"]
ReadOut = Literal["linear", "output embedding", "input embedding"]


@dataclass(frozen=True)
class TokenClasses:
    """Classes of the tokens of a batch.

    ``source``: the key of the batch that holds them, or a function of the batch that computes them; (B, T) int64, -100
    for none. ``n_classes``: how many there are; None if the classes are tokens of the vocabulary (such as the targets
    of an n-gram model), which are read out by the model's own output embedding.
    """

    source: str | Callable[[Mapping[str, Tensor]], Tensor]
    n_classes: int | None


Annotation = Tensor | TokenClasses | LabelFree
Annotations = Annotation | Mapping[str, Annotation]
"""A table (V,) int64 from token to class; classes of a batch; ``identity`` or ``next``; or several of these by name."""


@dataclass(frozen=True)
class TokenBatch:
    """Tokens (B, T) with their mask, which of them count (B, T), and everything that came with them.

    Padding (``attention_mask`` 0) and tokens whose ``labels`` are -100 do not count. ``documents`` (B, T): the number
    of each token's document in its row, see :mod:`~unplateau.integrations.packing`; None where rows have one each.
    """

    prompts: TokenPrompts
    counted: Tensor
    given: Mapping[str, Tensor]
    documents: Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, Tensor] | Tensor) -> TokenBatch:
        """From a batch as language models take it: a mapping with ``input_ids``, or the tokens alone."""
        given = {"input_ids": batch} if isinstance(batch, Tensor) else batch
        if "input_ids" not in given:
            raise SpecError(
                f"batch: needs 'input_ids' (B, T); it has {', '.join(sorted(map(str, given))) or 'nothing'}"
            )
        tokens = given["input_ids"]
        if tokens.ndim != 2:
            raise SpecError(f"batch: input_ids must be (B, T), got {tuple(tokens.shape)}")
        packing = packing_of(given, tokens)
        prompts = TokenPrompts(tokens, packing.mask, places=packing.places)
        labels = _like(tokens, given.get("labels"))
        counted = torch.ones_like(tokens, dtype=torch.bool) if prompts.mask is None else prompts.mask
        counted = counted if labels is None else counted & (labels >= 0)
        return cls(prompts, counted, given, packing.documents)

    def first(self, n_rows: int | None) -> TokenBatch:
        """The first rows of the batch, all if None."""
        own = len(self.counted)
        cut = {
            key: value[:n_rows]
            for key, value in self.given.items()
            if isinstance(value, Tensor) and value.ndim and len(value) == own and key not in BOUNDS
        }
        documents = None if self.documents is None else self.documents[:n_rows]
        prompts = self.prompts.map(lambda tensor: tensor[:n_rows])
        return TokenBatch(prompts, self.counted[:n_rows], {**self.given, **cut}, documents)


@dataclass(frozen=True)
class Target:
    """One annotation, ready for use: ``find`` gives (B, T) classes, ``read_out`` says what they are predicted by.

    ``n_classes`` is 0 where the classes are the tokens of the vocabulary. ``key`` is what it reads from a batch.
    ``limit``: classes that a batch brings must be below; None where they are known to be.
    """

    name: str
    read_out: ReadOut
    n_classes: int
    find: Callable[[TokenBatch], Tensor]
    of_type: bool = False
    key: str | None = None
    limit: int | None = None

    def classes(self, batch: TokenBatch) -> Tensor:
        """(B, T) int64, -100 wherever nothing is asked. Raises SpecError for another shape and for unknown classes."""
        found = self.find(batch)
        if found.shape != batch.counted.shape:
            shapes = f"{tuple(found.shape)} for tokens {tuple(batch.counted.shape)}"
            raise SpecError(f"annotation '{self.name}': needs one class for each token, got {shapes}")
        wanted = torch.where(batch.counted, found.long(), IGNORED)
        if self.limit is not None:
            self._check_range(wanted, found, self.limit)
        return wanted

    def _check_range(self, wanted: Tensor, found: Tensor, limit: int) -> None:
        if found.is_floating_point():
            raise SpecError(f"annotation '{self.name}': classes must be integers, got {found.dtype}")
        outside = (wanted != IGNORED) & ((wanted < 0) | (wanted >= limit))
        if bool(outside.any()):
            how_many = f"n_classes is {limit}" if self.n_classes else f"the vocabulary has {limit} tokens"
            raise SpecError(
                f"annotation '{self.name}': class {int(wanted[outside][0])} in the batch, but {how_many}: classes are "
                f"0 .. {limit - 1}, or {IGNORED} for none"
            )


def targets_of(annotations: Annotations | None, n_tokens: int) -> list[Target]:
    """All annotations of a model with so many tokens in its vocabulary. Raises SpecError for what cannot be used."""
    if annotations is None:
        raise SpecError(
            "annotation: needed by a loss term: a table of classes (V,), TokenClasses(...), 'identity' or 'next'"
        )
    named = annotations if isinstance(annotations, Mapping) else {"class": annotations}
    if not named:
        raise SpecError("annotation: an empty mapping; name at least one annotation")
    return [_target(str(name), annotation, n_tokens) for name, annotation in named.items()]


def _target(name: str, annotation: Annotation, n_tokens: int) -> Target:
    if isinstance(annotation, Tensor):
        return _of_table(name, annotation)
    if isinstance(annotation, TokenClasses):
        return _of_batch(name, annotation, n_tokens)
    if annotation == "identity":
        return Target(name, "input embedding", 0, lambda batch: batch.prompts.tokens)
    if annotation == "next":
        return Target(name, "output embedding", 0, _next)
    kinds = f"a table (V,), TokenClasses(source, n_classes), or one of {', '.join(get_args(LabelFree))}"
    hint = suggest(annotation, get_args(LabelFree)) if isinstance(annotation, str) else ""
    raise SpecError(f"annotation '{name}': {annotation!r} is none: {kinds}{hint}")


def _of_batch(name: str, classes: TokenClasses, n_tokens: int) -> Target:
    if classes.n_classes is not None and classes.n_classes < 2:
        raise SpecError(f"annotation '{name}': n_classes must be at least 2 (got {classes.n_classes})")
    read_out: ReadOut = "output embedding" if classes.n_classes is None else "linear"
    source, limit = classes.source, classes.n_classes or n_tokens

    def find(batch: TokenBatch) -> Tensor:
        if not isinstance(source, str):
            return source(batch.given)
        if source not in batch.given:
            known = ", ".join(sorted(batch.given))
            raise SpecError(f"annotation '{name}': the batch has no '{source}' (B, T); it has {known}")
        return batch.given[source]

    key = source if isinstance(source, str) else None
    return Target(name, read_out, classes.n_classes or 0, find, key=key, limit=limit)


def _of_table(name: str, table: Tensor) -> Target:
    if table.ndim != 1 or table.is_floating_point():
        raise SpecError(
            f"annotation '{name}': a table must be (V,) of integers, got {tuple(table.shape)} of {table.dtype}"
        )
    table = table.long()
    if bool(((table < 0) & (table != IGNORED)).any()) or bool((table < 0).all()):
        raise SpecError(
            f"annotation '{name}': classes must be 0, 1, 2 ..., or {IGNORED} for none; at least one is needed"
        )
    if len(table[table >= 0].unique()) < 2:
        raise SpecError(f"annotation '{name}': all classes of the table are {int(table.max())}; at least 2 are needed")
    return Target(name, "linear", int(table.max()) + 1, _Lookup(name, table), of_type=True)


@dataclass
class _Lookup:
    """A table (V,) from token to class, kept on the device that last asked."""

    name: str
    table: Tensor

    def __call__(self, batch: TokenBatch) -> Tensor:
        tokens, size = batch.prompts.tokens, len(self.table)
        beyond = batch.counted & (tokens >= size)
        if bool(beyond.any()):
            raise SpecError(
                f"annotation '{self.name}': token {int(tokens[beyond][0])} in the batch, but the table has classes for "
                f"tokens 0 .. {size - 1}: give one for each token, or {IGNORED} for none"
            )
        self.table = self.table.to(tokens.device)
        return self.table[tokens.clamp(max=size - 1)]


def _next(batch: TokenBatch) -> Tensor:
    following = torch.where(batch.counted, batch.prompts.tokens, IGNORED)[:, 1:]
    if batch.documents is not None:
        following = following.masked_fill(batch.documents[:, 1:] != batch.documents[:, :-1], IGNORED)
    return functional.pad(following, (0, 1), value=IGNORED)


def _like(tokens: Tensor, other: Tensor | None) -> Tensor | None:
    """What has one value for each token."""
    return other if isinstance(other, Tensor) and other.shape == tokens.shape else None
