"""Byte-pair pieces learnt from a corpus: between whole words and single letters.

The learning itself is the tokenizers library's, an extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unplateau.errors import DataError, missing_extra


@dataclass(frozen=True)
class Subwords:
    """``size``: number of pieces. Equal corpora and sizes give equal pieces."""

    size: int
    tokenizer: Any

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces, from 0 to ``size`` - 1, of each text; a character that the corpus never had is left out."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def decode(self, pieces: Sequence[int]) -> str:
        """The text again; several spaces become one."""
        return str(self.tokenizer.decode(list(pieces)))


def train_subwords(texts: Sequence[str], size: int) -> Subwords:
    """At most ``size`` pieces of these texts, byte-pair merges within words (Sennrich et al. 2016, section 3.2).

    Raises DataError for an empty corpus or a size below its number of characters, MissingExtraError without the extra.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise missing_extra("byte-pair pieces need tokenizers", "text") from error
    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})
    if not letters:
        raise DataError("byte-pair pieces: there is no text to learn them from")
    if size <= len(letters):
        raise DataError(f"byte-pair pieces: {size} is too few for a corpus of {len(letters)} different characters")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=letters)
    tokenizer.train_from_iterator(texts, trainer)
    return Subwords(tokenizer.get_vocab_size(), tokenizer)
