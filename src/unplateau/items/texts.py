"""Real sentences as items: their class, and if asked their length, are the factors that decide labels.

Plain prompts for a pretrained model are made from the same items by ``unplateau.integrations.huggingface``.
"""

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from unplateau.data.corpora import load_texts
from unplateau.data.lexicon import grouped
from unplateau.data.subwords import train_subwords
from unplateau.data.texts import LabelledTexts
from unplateau.errors import DataError, SpecError, missing_extra, suggest
from unplateau.items.base import ItemSource
from unplateau.layout import Tokens, Vectors
from unplateau.limits import refuse_memory

VECTOR_SCALE = 0.7
"""Standard deviation of each component of a sentence vector, as of principal components of images."""


class LabelledText(ItemSource):
    """Texts of a corpus, as sentence vectors or as byte-pair tokens; the test texts are held out.

    ``vectors``: TF-IDF of the words, reduced to principal directions (latent semantic analysis, Deerwester et al.
    1990). ``bag``: byte-pair pieces learnt from the train texts, whose embeddings are summed, so that their order is
    lost. Both take one position per text. ``pieces``: the same pieces one after the other; a text then takes several
    positions, which is why the cut ``item`` and not ``self`` is the one that leaves it whole.

    The exact floors take the class of every text as known. No reader of real texts is perfect, so the Bayes accuracy is
    an upper bound of what can be reached on held-out texts.
    """

    corpus: str = Field(
        "shipped",
        description="shipped (ours), the name of a corpus (`unplateau data list`), a file, or package.module:function",
    )
    classes: tuple[str, ...] | None = Field(None, description="classes to use; null: all of the corpus")
    per_class: int | None = Field(None, ge=2, description="texts of each class, spread over the corpus; null: all")
    n_words: int = Field(16, ge=1, description="words that a text is cut to")
    attributes: tuple[Literal["class", "length"], ...] = Field(
        ("class",), min_length=1, description="factors of a text: its class, its length in four groups"
    )
    written: Literal["vectors", "bag", "pieces"] = Field(
        "vectors", description="sentence vectors, or byte-pair pieces: summed at one position, or one position each"
    )
    width: int = Field(64, ge=1, description="length of a sentence vector")
    n_pieces: int = Field(1000, ge=100, description="size of the byte-pair vocabulary")
    most_pieces: int = Field(24, ge=1, description="pieces that a text is cut to; its positions where written so")

    @field_validator("corpus", mode="before")
    @classmethod
    def _as_text(cls, corpus: str | Path) -> str:
        return str(corpus)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes must name two or more, and none twice (got {', '.join(self.classes) or 'none'})")
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes names one twice: {', '.join(self.attributes)}")
        return self

    def data_bytes(self) -> int:
        """Of the pieces of a single text: how many texts there are is known when the corpus is read."""
        return 0 if self.written == "vectors" else 16 * self.most_pieces

    def check(self) -> None:
        """Reads the corpus: it must be there, have the classes, and differ in every attribute."""
        refuse_memory(f"most_pieces {self.most_pieces}", len(self.texts()) * self.data_bytes())
        for name, size in zip(self.attributes, self.factor_sizes, strict=True):
            if size < 2:
                raise ValueError(f"attribute '{name}' is the same for all texts of '{self.corpus}'")

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The attributes."""
        return self.attributes

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of classes, of groups of lengths."""
        return tuple(int(column.max()) + 1 for column in self.factors().T)

    @property
    def form(self) -> Vectors | Tokens:
        """Sentence vectors, or pieces: all those of a bag at once, else one."""
        if self.written == "vectors":
            return Vectors(self.width)
        return Tokens(_tokens(self)[1], self.most_pieces if self.written == "bag" else 1)

    @property
    def item_length(self) -> int:
        """Positions of a text: 1 unless its pieces stand one after the other."""
        return self.most_pieces if self.written == "pieces" else 1

    def corpus_texts(self) -> LabelledTexts:
        """The chosen texts, cut to ``n_words``. Raises DataError if the corpus cannot be had or a class has too few."""
        return _chosen(self.corpus, self.classes, self.per_class, self.n_words)

    def factors(self) -> Tensor:
        """(N, F) int64."""
        return _factors(self)

    def vectors(self, index: Tensor) -> Tensor:
        """(..., width) float32."""
        return _sentence_vectors(self)[index]

    def tokens(self, index: Tensor) -> Tensor:
        """(..., positions, 1) int64, the last piece at the last position; of a bag (..., 1, P)."""
        tokens = _tokens(self)[0][index]  # (..., P)
        return tokens[..., None] if self.written == "pieces" else tokens[..., None, :]

    def texts(self) -> tuple[str, ...]:
        """The texts, cut to ``n_words`` words."""
        return self.corpus_texts().texts


@lru_cache(maxsize=16)
def _chosen(corpus: str, classes: tuple[str, ...] | None, per_class: int | None, n_words: int) -> LabelledTexts:
    whole = load_texts(corpus)
    names = whole.label_names if classes is None else classes
    for name in names:
        if name not in whole.label_names:
            raise SpecError(f"unknown class '{name}' of corpus '{corpus}'{suggest(name, whole.label_names)}")
    texts: list[str] = []
    labels: list[int] = []
    for label, own in enumerate(_by_class(whole, names, n_words)):
        if len(own) < (per_class or 1):
            raise DataError(
                f"class '{names[label]}' of corpus '{corpus}' has {len(own)} texts, {per_class or 1} needed"
            )
        texts += own if per_class is None else [own[place * len(own) // per_class] for place in range(per_class)]
        labels += [label] * (len(texts) - len(labels))
    return LabelledTexts(tuple(texts), tuple(labels), tuple(names), whole.name)


def _by_class(whole: LabelledTexts, names: tuple[str, ...], n_words: int) -> list[list[str]]:
    """The different texts of each class, cut, in the order of the corpus; without those that are in two classes."""
    found: dict[str, dict[str, None]] = {name: {} for name in names}
    for text, label in zip(whole.texts, whole.labels, strict=True):
        if (name := whole.label_names[label]) in found:
            found[name][" ".join(text.split()[:n_words])] = None
    classes_of = Counter(text for own in found.values() for text in own)
    return [[text for text in own if classes_of[text] == 1] for own in found.values()]


@lru_cache(maxsize=8)
def _factors(source: LabelledText) -> Tensor:
    found = source.corpus_texts()
    columns = {"class": found.labels}
    if "length" in source.attributes:
        lengths = [len(text.split()) for text in found.texts]
        columns["length"] = grouped("length", lengths, lambda low, high: f"{low}-{high} words").of
    return torch.tensor([columns[name] for name in source.attributes]).T.contiguous()


@lru_cache(maxsize=8)
def _sentence_vectors(source: LabelledText) -> Tensor:
    """(N, width) float32: mean 0 and deviation ``VECTOR_SCALE`` per component over the train texts."""
    try:
        from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415 (an extra)
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("sentence vectors need scikit-learn", "text") from error
    texts, train = source.texts(), source.split("train").tolist()
    frequencies = TfidfVectorizer(sublinear_tf=True).fit([texts[item] for item in train])
    n_known = len(frequencies.vocabulary_)
    if min(n_known, len(train)) <= source.width:
        raise SpecError(f"width {source.width}: must be below the {len(train)} train texts and their {n_known} words")
    reduced = TruncatedSVD(source.width, algorithm="arpack", random_state=0)
    reduced.fit(frequencies.transform([texts[item] for item in train]))
    vectors = reduced.transform(frequencies.transform(texts))
    spread = vectors[train].std(axis=0)
    scaled = (vectors - vectors[train].mean(axis=0)) / np.where(spread > 0, spread, 1) * VECTOR_SCALE
    return torch.from_numpy(scaled.astype(np.float32))


@lru_cache(maxsize=8)
def _tokens(source: LabelledText) -> tuple[Tensor, int]:
    """(N, most pieces) int64 from 1 on, filled up with 0 on the left, and the number of pieces."""
    texts = source.texts()
    pieces = train_subwords([texts[item] for item in source.split("train").tolist()], source.n_pieces)
    written = [[1 + piece for piece in row[: source.most_pieces]] for row in pieces.encode(texts)]
    return torch.tensor([[0] * (source.most_pieces - len(row)) + row for row in written]), pieces.size
