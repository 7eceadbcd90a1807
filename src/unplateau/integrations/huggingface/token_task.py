"""Prompts of a task as text for a language model, with the exact position of every item and label among the tokens.

A score is only as good as its positions, so every one is read from the tokenizer's own offsets and every label is
checked to be the one token that it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unplateau.errors import SpecError
from unplateau.layout import Split, TaskShape
from unplateau.tasks.base import Task
from unplateau.tensors import Batch, TokenPrompts

TEMPLATE = "{item} {label}\n"

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

SURVEYED = 64
"""Prompts of each split that are looked at before the first batch."""


class TokenTask:
    """A sampler of prompts for a language model over any :class:`~unplateau.tasks.base.Task` whose items have texts.

    ``template`` writes one pair and holds ``{item}`` and ``{label}`` once, in this order. ``labels``: a word for each
    of the C labels (white space around it is the template's); by default the task's own, else A, B, C ...
    ``max_positions``: the longest prompt that the model can read. The unit of cut ``item`` is what has factors: the
    item, or each word of an item where every word has its own (``WordSelection``). Raises SpecError, one line, for
    items without texts, for a cue that tells something (a prompt in words has none), for a label that is not one token
    in its place, and for prompts that are too long.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: Any,
        template: str = TEMPLATE,
        labels: Sequence[str] | None = None,
        *,
        max_positions: int | None = None,
    ) -> None:
        self.task, self.tokenizer, self.template, self.max_positions = task, tokenizer, template, max_positions
        if not getattr(tokenizer, "is_fast", False):
            raise SpecError(
                f"{type(tokenizer).__name__}: gives no offsets; a fast tokenizer (tokenizer.json) is needed"
            )
        self._between = split_template(template)
        _refuse_cue(task)
        self.labels = _label_words(task, labels)
        self.label_tokens = self._find_label_tokens()
        self._demand_fit([prompt for _, prompt in self._survey()])

    @property
    def shape(self) -> TaskShape:
        """That of the task; positions of a prompt in tokens are in the prompts themselves."""
        return self.task.shape

    @property
    def split_items(self) -> tuple[str, ...]:
        """Words of items that the tokenizer splits, of those in the first prompts (``n_items_seen`` words).

        Under cut ``self`` the weights component of such an item is that of its last piece only; cut ``item`` has all.
        """
        return tuple(word for word, n_tokens in self._lengths.items() if n_tokens > 1)

    @property
    def n_items_seen(self) -> int:
        """How many different words ``split_items`` has been looked for among."""
        return len(self._lengths)

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The task's batch of this step, written in tokens."""
        batch = self.task.sample(step, batch_size=batch_size, split=split, seed=seed)
        written = self._written(batch)
        prompts = [self._tokenise(one) for one in written]
        for prompt in prompts:
            self._demand_fit([prompt])
        self._check_labels(written, prompts, batch.targets)
        return Batch(self._padded(prompts), batch.targets, batch.factors, batch.hidden_factor, batch.item_index)

    def text(self, batch: Batch, row: int = 0) -> str:
        """A prompt of a batch of the task, as text."""
        return self._written(batch)[row].text

    @cached_property
    def _lengths(self) -> dict[str, int]:
        """Number of tokens of each word of an item in the first prompts: the most that it takes anywhere."""
        found: dict[str, int] = {}
        for written, prompt in self._survey():
            for (start, end), (first, last) in zip(written.parts, prompt.parts, strict=True):
                word = written.text[start:end]
                found[word] = max(found.get(word, 0), last - first)
        return found

    def _survey(self) -> Iterator[tuple[Written, Tokenised]]:
        for split in get_args(Split):
            for written in self._written(self.task.sample(0, batch_size=SURVEYED, split=split)):
                yield written, self._tokenise(written)

    def _written(self, batch: Batch) -> list[Written]:
        return [self._write(*one) for one in zip(self._texts(batch), batch.targets.tolist(), strict=True)]

    def _texts(self, batch: Batch) -> list[list[str]]:
        texts = self.task.shown(batch).texts
        if texts is None:
            raise SpecError(
                f"{type(self.task).__name__}: its items are no texts; a language model needs a task over words or "
                "sentences, such as FactorTask over Words"
            )
        return texts

    def _write(self, items: Sequence[str], targets: Sequence[int]) -> Written:
        before, middle, after = self._between
        text, parts, labels = "", [], []
        for item, target in zip(items, targets, strict=True):
            text += before
            parts += self._spans_of_parts(item, len(text))
            text += item + middle
            labels.append((len(text), len(text) + len(self.labels[target])))
            text += self.labels[target] + after
        return Written(text, tuple(parts), tuple(labels))

    def _spans_of_parts(self, item: str, start: int) -> list[Span]:
        """Where a text has factors at each of its words, those words; else the text."""
        layout = self.shape.layout
        if not layout.in_lists:
            return [(start, start + len(item))]
        words = item.split(", ")
        if len(words) != layout.item_length:
            raise SpecError(
                f"item '{item}': {len(words)} words instead of {layout.item_length}; a comma and a space stand "
                "between the words of an item and must not be inside one"
            )
        starts = [start + sum(len(word) + 2 for word in words[:number]) for number in range(len(words))]
        return [(at, at + len(word)) for at, word in zip(starts, words, strict=True)]

    def _tokenise(self, written: Written) -> Tokenised:
        found = self.tokenizer(written.text, return_offsets_mapping=True, verbose=False)
        tokens, offsets = list(found["input_ids"]), [tuple(span) for span in found["offset_mapping"]]
        parts = tokens_of(written.text, offsets, written.parts, "item")
        labels = tokens_of(written.text, offsets, written.labels, "label")
        for (start, end), (first, last) in zip(written.parts, parts, strict=True):
            if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in tokens[first:last]:
                raise SpecError(f"item '{written.text[start:end]}' has characters that the tokenizer does not know")
        for (start, end), (first, last) in zip(written.labels, labels, strict=True):
            if last - first != 1:
                pieces = ", ".join(f"'{self.tokenizer.decode([token])}'" for token in tokens[first:last])
                raise SpecError(
                    f"label '{written.text[start:end]}' is split into {pieces} by the tokenizer; a label must be one "
                    "token in its place: choose other labels"
                )
        return Tokenised(tokens, parts, [first for first, _ in labels])

    def _find_label_tokens(self) -> tuple[int, ...]:
        """The token of each label, where it stands in the second pair of a prompt."""
        batch = self.task.sample(0, batch_size=1, split="test")
        item = self._texts(batch)[0][0]
        found: list[int] = []
        for label, word in enumerate(self.labels):
            prompt = self._tokenise(self._write([item, item], [label, label]))
            token = prompt.tokens[prompt.labels[1]]
            if token == self.tokenizer.unk_token_id:
                raise SpecError(f"label '{word}' is not known to the tokenizer: choose other labels")
            if token in found:
                same = self.labels[found.index(token)]
                raise SpecError(f"labels '{same}' and '{word}' are the same token: choose other labels")
            found.append(token)
        return tuple(found)

    def _check_labels(self, written: list[Written], prompts: list[Tokenised], targets: Tensor) -> None:
        for text, prompt, labels in zip(written, prompts, targets.tolist(), strict=True):
            for (start, end), at, label in zip(text.labels, prompt.labels, labels, strict=True):
                if prompt.tokens[at] != self.label_tokens[label]:
                    raise SpecError(
                        f"label '{text.text[start:end]}' is another token after other items: write the template so "
                        "that what stands before a label is always the same"
                    )

    def _demand_fit(self, prompts: list[Tokenised]) -> None:
        longest = max(prompts, key=lambda prompt: prompt.labels[-1])
        needed = longest.labels[-1] + 1
        if self.max_positions is not None and needed > self.max_positions:
            fitting = sum(at < self.max_positions for at in longest.labels)
            raise SpecError(
                f"a prompt of {self.shape.layout.n_pairs} pairs takes {needed} positions, the model has "
                f"{self.max_positions}: " + (f"set n_pairs to at most {fitting}" if fitting else "not one pair fits")
            )

    def _padded(self, prompts: list[Tokenised]) -> TokenPrompts:
        """Up to the last label: what comes after it is read by nothing."""
        rows = [torch.tensor(prompt.tokens[: prompt.labels[-1] + 1]) for prompt in prompts]
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        padding = next((token for token in known if token is not None), 0)  # never read: any token will do
        tokens = pad_sequence(rows, batch_first=True, padding_value=padding)
        mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
        units = torch.arange(tokens.shape[1]).repeat(len(rows), 1)
        for row, prompt in enumerate(prompts):
            for first, last in prompt.parts:
                units[row, first:last] = first
        queries = torch.tensor([prompt.labels for prompt in prompts]) - 1
        ends = torch.tensor([[last - 1 for _, last in prompt.parts] for prompt in prompts])
        return TokenPrompts(tokens, mask, units, ends, queries)


def _label_words(task: Task, labels: Sequence[str] | None) -> tuple[str, ...]:
    n_labels = task.shape.n_labels
    own = task.shown(task.sample(0, batch_size=1)).labels
    given = labels if labels is not None else (own or LETTERS[:n_labels])
    if labels is None and len(given) < n_labels:
        raise SpecError(f"this task has {n_labels} labels, more than there are letters; name them with labels=...")
    words = tuple(word.strip() for word in given)
    if len(words) != n_labels:
        raise SpecError(f"labels: {len(words)} given for the {n_labels} labels of the task")
    if not all(words):
        raise SpecError("labels: a label must not be empty")
    return words


def _refuse_cue(task: Task) -> None:
    """A cue that is the same in every prompt says nothing and may be left out of the text; others may not."""
    if not task.shape.n_cues:
        return
    cues = getattr(task.sample(0, batch_size=SURVEYED).inputs, "cues", None)
    if cues is not None and bool((cues != cues[0]).any()):
        raise SpecError(
            f"{type(task).__name__}: its prompts begin with a cue that says what they hide, which cannot be written "
            "in words; use a neutral cue (n_mappings: null)"
        )


Span = tuple[int, int]


@dataclass(frozen=True)
class Written:
    """One prompt as text, with the characters of each unit and of each label.

    A unit is what has factors: the item, or each word of an item where every word has its own.
    """

    text: str
    parts: tuple[Span, ...]
    labels: tuple[Span, ...]


@dataclass(frozen=True)
class Tokenised:
    """One prompt as tokens: which of them (from, to) write each unit, and which is each label."""

    tokens: list[int]
    parts: list[Span]
    labels: list[int]


def split_template(template: str) -> tuple[str, str, str]:
    """What stands before the item, between item and label, and after the label."""
    before, item, rest = template.partition("{item}")
    middle, label, after = rest.partition("{label}")
    if not (item and label and middle) or "{item}" in rest or "{label}" in after or "{label}" in before:
        raise SpecError(
            f"template {template!r}: must hold {{item}} and then {{label}}, once each, with something between them"
        )
    return before, middle, after


def tokens_of(text: str, offsets: list[Span], spans: Sequence[Span], what: str) -> list[Span]:
    """The tokens (from, to) that write each of these spans of characters, which follow each other."""
    found: list[Span] = []
    token = 0
    for start, end in spans:
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        first = token
        while token < len(offsets) and offsets[token][0] < end and offsets[token][1] > start:  # not a special one
            token += 1
        outside = text[offsets[first][0] : start] + text[end : offsets[token - 1][1]] if token > first else "-"
        if outside.strip():
            raise SpecError(
                f"{what} '{text[start:end]}' shares a token with what stands beside it: change the template "
                "(white space around items and labels helps)"
            )
        found.append((first, token))
    return found
