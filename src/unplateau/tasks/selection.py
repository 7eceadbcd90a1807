"""Word selection: from each list of words of different topics, give the word of the hidden topic.

Prompts are c [x x x] y [x x x] y ..., where the answer y is one of the words before it. One knob leads from D_fix (the
cue c names the topic) to D_rnd (the cue says nothing, the answers before do).
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.items.words import Words
from unplateau.layout import Factor, Layout, Split, TaskShape
from unplateau.rng import fold
from unplateau.tasks.base import Shown, Task
from unplateau.tasks.factors import distinct, mapping_bytes, mapping_tables
from unplateau.tensors import Batch, Items, Prompts


class WordSelection(Task):
    """Lists of words of different topics; the answer is the word of the topic that the prompt hides.

    Progress is read from accuracy: the loss also falls while the model learns to name one of the list's words.
    """

    progress: ClassVar[Literal["loss", "accuracy"]] = "accuracy"
    holds_out_items: ClassVar[bool] = False  # a word that was never an answer in training is not given as one

    words: Words = Field(
        default_factory=lambda: Words(
            topics=("animal", "food", "artifact", "person", "body", "plant"), per_topic=80, attributes=("topic",)
        ),
        description="the words; the first attribute is what topics are here",
    )
    n_pairs: int = Field(6, ge=1, description="lists in a prompt (K)")
    n_words: int = Field(3, ge=2, description="words in a list, each of another topic")
    n_mappings: int | None = Field(
        None, ge=1, description="mappings of topics to cues: 1 = the cue names the topic (D_fix), null = a neutral cue"
    )
    mapping_seed: int = Field(0, ge=0, description="seed of the table of mappings when n_mappings is a number")
    shuffle_factors: bool = Field(False, description="control: topics are those of other words, drawn once")

    @model_validator(mode="after")
    def _answers_are_words(self) -> Self:
        if self.words.written != "words":
            raise ValueError(f"words.written must be 'words', since answers are words (got '{self.words.written}')")
        return self

    def check(self) -> None:
        """Reads the words: there must be topics for a list, and words of each for all lists."""
        if self.n_words > self.n_topics:
            raise ValueError(f"n_words {self.n_words} is more than the {self.n_topics} topics")
        for split in ("train", "test"):
            fewest = min(len(pool) for pool in self._pools(split))
            if fewest < self.n_pairs:
                raise ValueError(
                    f"n_pairs {self.n_pairs} is more than the {fewest} {split} words of a topic; no word comes twice"
                )

    def data_bytes(self) -> int:
        """Of the table of mappings, of two topics at least."""
        return 0 if self.n_mappings is None else mapping_bytes(self.n_mappings, (2,))

    @property
    def n_topics(self) -> int:
        """Number of topics (V)."""
        return self.words.factor_sizes[0]

    @property
    def shape(self) -> TaskShape:
        """Labels are the words themselves; there is a cue for each topic and a neutral one."""
        form = self.words.form
        return TaskShape(
            layout=Layout(self.n_pairs, self.n_words, cue=True, factors_at="position"),
            items=form,
            n_labels=form.vocabulary,
            factors=(Factor(self.words.factor_names[0], self.n_topics),),
            asked=(0,),
            choices=self.words.entries().attribute(self.words.attributes[0]).values,
            labels_are_tokens=True,
            n_cues=self.n_topics + 1,
        )

    def fixed(self, variant: int = 0) -> WordSelection:
        """D_fix: every topic has its cue; ``variant`` chooses which."""
        return self.model_copy(update={"n_mappings": 1, "mapping_seed": self.mapping_seed + variant})

    def shuffled(self) -> WordSelection:
        """The control with ``shuffle_factors``."""
        return self.model_copy(update={"shuffle_factors": True})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step; the words of a prompt are distinct."""
        generator = fold(seed, f"prompts/{split}", step)
        hidden = torch.randint(self.n_topics, (batch_size,), generator=generator)
        topics = self._draw_topics(hidden, generator)  # (B, K, n_words)
        drawn = [pool[distinct(batch_size, self.n_pairs, len(pool), generator)] for pool in self._pools(split)]
        index = torch.stack(drawn, 2).gather(2, topics)  # (B, K, n_words)
        targets = index[topics == hidden[:, None, None]].view(batch_size, self.n_pairs)
        inputs = Prompts(index[..., None] + 1, targets, self.shape.layout, self._draw_cues(hidden, generator))
        return Batch(inputs, targets, topics.flatten(1)[..., None], hidden, index.flatten(1))

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Single words of this step (with replacement) and their topics."""
        pool = self.words.split(split)
        index = pool[torch.randint(len(pool), (n_items,), generator=fold(seed, f"items/{split}", step))]
        return Items(index[:, None, None] + 1, self._topics()[index, None])

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C): any word of the list alike, which ignores cue and answers."""
        lists = batch.item_index.view(*batch.targets.shape, self.n_words)
        return self._spread(torch.full(lists.shape, 1 / self.n_words, dtype=torch.float64), lists)

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) exact: the posterior over topics given cue and answers before, among the topics of the list."""
        lists = batch.item_index.view(*batch.targets.shape, self.n_words)
        topics = batch.factors[..., 0].view_as(lists)
        weight = self._agreeing(batch).gather(2, topics)
        return self._spread(weight / weight.sum(2, keepdim=True).clamp_min(1e-300), lists)

    def choice_chances(self, batch: Batch) -> Tensor:
        """(B, K, V) exact: of the topics of the list that agree with cue and answers before."""
        topics = batch.factors[..., 0].view(*batch.targets.shape, self.n_words)
        weight = self._agreeing(batch)
        weight = weight * torch.zeros_like(weight).scatter_(2, topics, 1.0)
        return weight / weight.sum(2, keepdim=True).clamp_min(1e-300)

    def _agreeing(self, batch: Batch) -> Tensor:
        """(B, K, V): how likely each topic makes cue and answers before, up to a factor."""
        lists = batch.item_index.view(*batch.targets.shape, self.n_words)
        topics = batch.factors[..., 0].view_as(lists)
        answers = topics[lists == batch.targets[..., None]].view_as(batch.targets)  # (B, K) topics
        agrees = torch.nn.functional.one_hot(answers, self.n_topics).double()
        return torch.cat((self._prior(batch)[:, None], agrees[:, :-1]), 1).cumprod(1)

    def evidence(self, batch: Batch) -> Tensor:
        """(B,): the probability of the cue. A neutral one is certain in D_rnd, and never given elsewhere."""
        if self.n_mappings is None:
            return (_cues(batch) == self.n_topics).double()
        return self._prior(batch).mean(1)

    def shown(self, batch: Batch) -> Shown:
        """The words of each list; labels are words themselves."""
        words = self.words.texts()
        lists = batch.item_index.view(*batch.targets.shape, self.n_words).tolist()
        return Shown(
            texts=[[", ".join(words[item] for item in one) for one in prompt] for prompt in lists], labels=words
        )

    def _draw_topics(self, hidden: Tensor, generator: torch.Generator) -> Tensor:
        """(B, K, n_words): the hidden topic and others, in random order."""
        keys = torch.rand(len(hidden), self.n_pairs, self.n_topics, generator=generator, dtype=torch.float32)
        keys.scatter_(2, hidden[:, None, None].expand(-1, self.n_pairs, 1), -1)  # the hidden one is always chosen
        chosen = keys.argsort(2)[..., : self.n_words]
        return chosen.gather(2, torch.rand(chosen.shape, generator=generator, dtype=torch.float32).argsort(2))

    def _draw_cues(self, hidden: Tensor, generator: torch.Generator) -> Tensor:
        """(B,): the neutral cue, or that of the hidden topic under one of the mappings."""
        if self.n_mappings is None:
            return torch.full_like(hidden, self.n_topics)
        which = torch.randint(self.n_mappings, hidden.shape, generator=generator)
        return self._table()[which, hidden]

    def _prior(self, batch: Batch) -> Tensor:
        """(B, V): how likely each topic is, given the cue alone, up to a factor."""
        cues = _cues(batch)
        if self.n_mappings is None:
            return torch.ones(len(cues), self.n_topics, dtype=torch.float64)
        return (self._table() == cues[:, None, None]).double().mean(1)

    def _spread(self, weights: Tensor, lists: Tensor) -> Tensor:
        """(B, K, C): these weights (B, K, n_words) at the words of the lists, 0 elsewhere."""
        everywhere = torch.zeros(*lists.shape[:2], self.words.form.vocabulary, dtype=torch.float64)
        return everywhere.scatter_(2, lists, weights)

    def _table(self) -> Tensor:
        """(m, V): mappings of topics to cues."""
        return mapping_tables(self.n_mappings or 1, (self.n_topics,), self.mapping_seed)[0]

    def _topics(self) -> Tensor:
        """(N,): the topic of each word, or of another one in the control."""
        topics = self.words.factors()[:, 0]
        if not self.shuffle_factors:
            return topics
        generator = fold(self.mapping_seed, "shuffled factors")
        is_test = torch.isin(torch.arange(len(topics)), self.words.split("test"))
        moved = topics.clone()
        for half in (is_test, ~is_test):  # apart, so that both keep as many words of each topic
            own = topics[half]
            moved[half] = own[torch.randperm(len(own), generator=generator)]
        return moved

    def _pools(self, split: Split) -> list[Tensor]:
        """The words of each topic in a split."""
        pool = self.words.split(split)
        topics = self._topics()[pool]
        return [pool[topics == topic] for topic in range(self.n_topics)]


def _cues(batch: Batch) -> Tensor:
    """(B,): the cues of prompts of this task, which always have one."""
    assert isinstance(batch.inputs, Prompts)
    assert batch.inputs.cues is not None
    return batch.inputs.cues
