"""Real sentences as items: their class, and if asked their length, are the factors that decide labels.

What enters: a corpus of labelled texts and how they are written. What leaves: sentence vectors or byte-pair tokens with
known factors, for :class:`~unplateau.tasks.factors.FactorTask`; plain prompts for a pretrained model are made from the
same items by ``unplateau.integrations.huggingface``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from unplateau.data.lexicon import grouped
from unplateau.data.pieces import train_pieces
from unplateau.data.texts import LabelledTexts, load_texts
from unplateau.errors import DataError, MissingExtraError, SpecError, suggest
from unplateau.tasks.source import ItemSource
from unplateau.tensors import pad_tokens

VECTOR_SCALE = 0.7
"""Standard deviation of each component of a sentence vector, as of principal components of images."""


class LabelledText(ItemSource):
    """Texts of a corpus, as sentence vectors or as byte-pair tokens; the test texts are held out.

    ``vectors``: TF-IDF of the words, reduced to principal directions (latent semantic analysis, Deerwester et al.
    1990); one position per text. ``pieces``: byte pairs learnt from the train texts; several positions per text, which
    is why the cut ``item`` and not ``self`` is the one that leaves a text whole.

    The exact floors take the class of every text as known. No reader of real texts is perfect, so the Bayes accuracy is
    an upper bound of what can be reached on held-out texts.
    """

    corpus: str = Field(
        "shipped", description="shipped (ours), the name of a corpus (`unplateau data list`), or a file"
    )
    classes: tuple[str, ...] | None = Field(None, description="classes to use; null: all of the corpus")
    per_class: int | None = Field(None, ge=2, description="texts of each class, spread over the corpus; null: all")
    n_words: int = Field(16, ge=1, description="words that a text is cut to")
    attributes: tuple[Literal["class", "length"], ...] = Field(
        ("class",), min_length=1, description="factors of a text: its class, its length in four groups"
    )
    written: Literal["vectors", "pieces"] = Field("vectors", description="sentence vectors, or byte-pair tokens")
    width: int = Field(64, ge=1, description="length of a sentence vector")
    n_pieces: int = Field(1000, ge=100, description="size of the byte-pair vocabulary")
    n_positions: int = Field(24, ge=1, description="positions of a text written in pieces; a longer one is cut")

    @field_validator("corpus")
    @classmethod
    def _as_text(cls, corpus: str | Path) -> str:
        return str(corpus)

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        self.corpus_texts()
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes names one twice: {', '.join(self.attributes)}")
        return self

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The attributes."""
        return self.attributes

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of classes, of groups of lengths."""
        return tuple(int(column.max()) + 1 for column in self.factors().T)

    @property
    def item_width(self) -> int:
        """Length of a sentence vector; 0 for pieces."""
        return self.width if self.written == "vectors" else 0

    @property
    def vocabulary(self) -> int:
        """Number of pieces; 0 for vectors."""
        return _tokens(self)[1] if self.written == "pieces" else 0

    @property
    def item_length(self) -> int:
        """Positions of a text: 1 for vectors."""
        return self.n_positions if self.written == "pieces" else 1

    def corpus_texts(self) -> LabelledTexts:
        """The chosen texts, cut to ``n_words``. Raises DataError if the corpus cannot be had or a class has too few."""
        return _chosen(self.corpus, self.classes, self.per_class, self.n_words)

    def factors(self) -> Tensor:
        """(N, F) int64."""
        found = self.corpus_texts()
        columns = {
            "class": found.labels,
            "length": grouped("length", [len(text.split()) for text in found.texts], _words).of,
        }
        return torch.tensor([columns[name] for name in self.attributes]).T.contiguous()

    def vectors(self, index: Tensor) -> Tensor:
        """(..., width) float32, or (..., positions, 1) int64 with the last piece at the last position."""
        return _sentence_vectors(self)[index] if self.written == "vectors" else _tokens(self)[0][index]

    def texts(self) -> tuple[str, ...]:
        """The texts, cut to ``n_words`` words."""
        return self.corpus_texts().texts


@lru_cache(maxsize=16)
def _chosen(corpus: str, classes: tuple[str, ...] | None, per_class: int | None, n_words: int) -> LabelledTexts:
    whole = load_texts(corpus)
    names = whole.label_names if classes is None else classes
    texts: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        if name not in whole.label_names:
            raise SpecError(f"unknown class '{name}' of corpus '{corpus}'{suggest(name, whole.label_names)}")
        own = _of_class(whole, whole.label_names.index(name), n_words)
        if per_class is not None and len(own) < per_class:
            raise DataError(f"per_class {per_class}: class '{name}' of corpus '{corpus}' has {len(own)} texts")
        texts += own if per_class is None else [own[place * len(own) // per_class] for place in range(per_class)]
        labels += [label] * (len(texts) - len(labels))
    return LabelledTexts(tuple(texts), tuple(labels), tuple(names), whole.name)


def _of_class(whole: LabelledTexts, label: int, n_words: int) -> list[str]:
    """The different texts of a class, cut, in the order of the corpus."""
    own = (text for text, of in zip(whole.texts, whole.labels, strict=True) if of == label)
    return list(dict.fromkeys(" ".join(text.split()[:n_words]) for text in own))


@lru_cache(maxsize=8)
def _sentence_vectors(source: LabelledText) -> Tensor:
    """(N, width) float32: mean 0 and deviation ``VECTOR_SCALE`` per component over the train texts."""
    try:
        from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415 (an extra)
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("sentence vectors need scikit-learn: pip install 'unplateau[text]'") from error
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
    """(N, positions, 1) int64 from 1 on, filled up with 0 on the left, and the number of pieces."""
    texts = source.texts()
    pieces = train_pieces([texts[item] for item in source.split("train").tolist()], source.n_pieces)
    written = [[1 + piece for piece in row[: source.n_positions]] for row in pieces.encode(texts)]
    tokens = pad_tokens([[0] * source.n_positions, *written], left=True)[1:]  # the first row sets the length
    return tokens[..., None], pieces.size


def _words(low: int, high: int) -> str:
    return f"{low}-{high} words"
