"""Real words as items: a word's topic, first letter, length ... are the factors, one of which decides the label."""

from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.data.lexicon import TOPICS, Lexicon, lexicon_from_file, shipped_lexicon
from unplateau.data.subwords import train_subwords
from unplateau.data.wordnet import wordnet_lexicon
from unplateau.errors import SpecError, suggest
from unplateau.items.base import ItemSource
from unplateau.layout import Tokens

SOURCES = ("shipped", "wordnet")
"""Lexica by name."""


class Words(ItemSource):
    """Words of a lexicon, each at one position of the prompt.

    Written as ``words``, each has a learned embedding of its own, and the weights must learn every word's attributes by
    heart: training uses all words, and test prompts a fixed share of them. Written as ``characters`` or ``pieces``
    (byte pairs, learnt from the train words), the embeddings of all characters or pieces at their places in the word
    are summed, and the test words are held out.
    """

    lexicon: Literal["shipped", "wordnet"] | Path = Field(
        "shipped", description="shipped (ours), wordnet (needs `unplateau data get`), or a TSV or CSV file of your own"
    )
    topics: tuple[str, ...] = Field(TOPICS, description="topics of the words (shipped and wordnet)")
    per_topic: int | None = Field(None, ge=1, description="words of each topic; null: as many as the smallest has")
    plurals: bool = Field(False, description="whether every second noun stands in its plural (shipped and wordnet)")
    attributes: tuple[str, ...] = Field(("topic", "initial", "length"), min_length=1, description="factors of a word")
    written: Literal["words", "characters", "pieces"] = Field(
        "words", description="one token per word, or a sum of characters or byte-pair pieces"
    )
    n_pieces: int = Field(300, ge=30, description="size of the byte-pair vocabulary, where words are written in pieces")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        fields, choices = type(self).model_fields, ("topics", "per_topic", "plurals")
        changed = [name for name in choices if getattr(self, name) != fields[name].default]
        if changed and isinstance(self.lexicon, Path):
            raise ValueError(f"{', '.join(changed)}: only for the lexica {' and '.join(SOURCES)}; a file is used whole")
        if "topic" in self.attributes and not isinstance(self.lexicon, Path) and len(self.topics) < 2:
            raise ValueError("attribute 'topic' needs two topics or more")
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes names one twice: {', '.join(self.attributes)}")
        return self

    def check(self) -> None:
        """Reads the lexicon: it must be there and have the topics and attributes."""
        if isinstance(self.lexicon, Path) and not self.lexicon.suffix and not self.lexicon.exists():
            raise SpecError(f"unknown lexicon '{self.lexicon}'{suggest(str(self.lexicon), SOURCES)}")
        for name in self.attributes:
            self.entries().attribute(name)

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The attributes."""
        return self.attributes

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values of each attribute."""
        return tuple(len(self.entries().attribute(name).values) for name in self.attributes)

    @property
    def form(self) -> Tokens:
        """Words, or characters or pieces times the places where they can stand; one, or the most of a word, at once."""
        return _form(self)

    @property
    def holds_out_items(self) -> bool:
        """Not where every word has an embedding of its own."""
        return self.written != "words"

    def entries(self) -> Lexicon:
        """The words and their attributes. DataError if the lexicon cannot be had, SpecError if it lacks a topic."""
        return _lexicon(self.lexicon, self.topics, self.per_topic, self.plurals)

    def factors(self) -> Tensor:
        """(N, F) int64."""
        return _factors(self)

    def tokens(self, index: Tensor) -> Tensor:
        """(..., 1, P) int64: the tokens of the words, P = 1 or the most characters or pieces of a word."""
        return _tokens(self)[index][..., None, :]

    def texts(self) -> tuple[str, ...]:
        """The words."""
        return self.entries().words


@lru_cache(maxsize=16)
def _lexicon(source: str | Path, topics: tuple[str, ...], per_topic: int | None, plurals: bool) -> Lexicon:
    if isinstance(source, Path):
        return lexicon_from_file(source)
    read = shipped_lexicon if source == "shipped" else wordnet_lexicon
    return read(topics, per_topic, plurals=plurals)


@lru_cache(maxsize=16)
def _factors(source: Words) -> Tensor:
    return torch.tensor([source.entries().attribute(name).of for name in source.attributes]).T.contiguous()


@lru_cache(maxsize=16)
def _form(source: Words) -> Tokens:
    tokens = _tokens(source)
    return Tokens(int(tokens.max()), tokens.shape[1])


@lru_cache(maxsize=16)
def _tokens(source: Words) -> Tensor:
    """(N, P) int64 from 1 on; a character or piece is another token at each place of the word."""
    words = source.entries().words
    if source.written == "words":
        return torch.arange(1, len(words) + 1)[:, None]
    if source.written == "characters":
        alphabet = {letter: number for number, letter in enumerate(sorted(set("".join(words))))}
        written, size = [[alphabet[letter] for letter in word] for word in words], len(alphabet)
    else:
        pieces = train_subwords([words[item] for item in source.split("train").tolist()], source.n_pieces)
        written, size = pieces.encode(words), pieces.size
    rows = [[1 + place * size + token for place, token in enumerate(word)] for word in written]
    return torch.tensor(list(zip_longest(*rows, fillvalue=0))).T.contiguous()
