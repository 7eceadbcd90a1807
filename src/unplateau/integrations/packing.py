"""Where the documents of a batch begin, and where each token stands in its own: rows may be padded, or packed.

Legend: B rows, T positions, N documents, P tokens of the longest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unplateau.errors import SpecError

BOUNDS = ("cu_seqlens", "cu_seq_lens", "cu_seqlens_q", "cu_seq_lens_q")
"""Keys of a batch that hold where each document begins among all tokens, and their number (N + 1,)."""
NUMBERS = ("seq_idx", "document_ids", "segment_ids", "sequence_ids")
"""Keys that hold the number of each token's document (B, T)."""


@dataclass(frozen=True)
class Packing:
    """``mask`` (B, T) bool, False at padding; ``places`` (B, T): positions; ``documents`` (B, T): numbers, which grow.

    Each is None where there is nothing to say: no padding, positions as they follow, one document in each row.
    """

    mask: Tensor | None
    places: Tensor | None
    documents: Tensor | None


def packing_of(given: Mapping[str, Any], tokens: Tensor) -> Packing:
    """What a batch says of its rows. Raises SpecError for what fits no batch of these tokens (B, T)."""
    whole = given.get("attention_mask")
    mask, begins = _of_mask(whole, tokens)
    numbered = [_changes(_fitting(key, given[key], tokens)) for key in NUMBERS if isinstance(given.get(key), Tensor)]
    numbered += [_bounds(key, given[key], tokens) for key in BOUNDS if isinstance(given.get(key), Tensor)]
    if begins is not None and whole is not None and whole.ndim == 2:
        numbered.append(begins)
    begins = torch.zeros_like(tokens, dtype=torch.bool) if begins is None else begins
    for one in numbered:
        begins = begins | one
    places = given.get("position_ids")
    if isinstance(places, Tensor):
        places = _fitting("position_ids", places, tokens)
        begins = begins | _restarts(places, mask)
    elif numbered:
        places = _counted_from(begins)
    elif isinstance(whole, Tensor) and whole.ndim > 2:  # the model counts through the row, whatever may see what
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return Packing(mask, places, begins.long().cumsum(1) if bool(begins.any()) else None)


def documents_apart(documents: Tensor) -> Tensor:
    """(N, P) int64: the flat place in (B T) of each token of each document, -1 behind short ones."""
    n_rows, n_positions = documents.shape
    row = torch.arange(n_rows, device=documents.device)[:, None]
    _, sizes = (documents + row * (n_positions + 1)).flatten().unique_consecutive(return_counts=True)
    flat = torch.arange(n_rows * n_positions, device=documents.device)
    return pad_sequence(flat.split(sizes.tolist()), batch_first=True, padding_value=-1)


def _of_mask(mask: Any, tokens: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Which tokens are no padding, and where documents begin, if the mask tells them apart."""
    if mask is None:
        return None, None
    if not isinstance(mask, Tensor):
        raise SpecError(f"attention_mask: needs a tensor (B, T) or (B, 1, T, T), got a {type(mask).__name__}")
    n_rows, n_positions = tokens.shape
    if mask.shape == tokens.shape:
        several = not mask.is_floating_point() and mask.dtype != torch.bool and bool((mask > 1).any())
        return mask.bool(), _changes(mask) if several else None
    fits = mask.ndim == 4 and mask.shape[2:] == (n_positions, n_positions) and len(mask) in (1, n_rows)
    if not fits:
        shape = tuple(mask.shape)
        raise SpecError(f"attention_mask: must be (B, T) or (B, 1, T, T), got {shape} for tokens {tuple(tokens.shape)}")
    adds = mask.is_floating_point() and bool((mask < 0).any())
    seen = (mask > torch.finfo(mask.dtype).min / 2 if adds else mask.bool()).any(1).expand(n_rows, -1, -1)
    real = seen.diagonal(dim1=1, dim2=2)
    begins = torch.zeros_like(real)
    begins[:, 1:] = ~seen.diagonal(-1, 1, 2)
    return real, begins


def _fitting(key: str, value: Tensor, tokens: Tensor) -> Tensor:
    """(B, T), also of what is given once for all rows."""
    if value.ndim > 2 or value.shape[-1] != tokens.shape[1] or (value.ndim == 2 and len(value) not in (1, len(tokens))):
        raise SpecError(f"{key}: must be (B, T), got {tuple(value.shape)} for tokens {tuple(tokens.shape)}")
    return value.expand_as(tokens)


def _changes(numbers: Tensor) -> Tensor:
    begins = torch.zeros_like(numbers, dtype=torch.bool)
    begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    return begins


def _restarts(places: Tensor, mask: Tensor | None) -> Tensor:
    begins = torch.zeros_like(places, dtype=torch.bool)
    begins[:, 1:] = places[:, 1:] <= places[:, :-1]
    if mask is not None:
        begins[:, 1:] &= mask[:, 1:] & mask[:, :-1]  # padding may stand anywhere
    return begins


def _bounds(key: str, value: Tensor, tokens: Tensor) -> Tensor:
    bounds, n_tokens = value.flatten().long(), tokens.numel()
    if value.ndim != 1 or bool((bounds.diff() < 0).any()) or int(bounds[0]) != 0 or int(bounds[-1]) > n_tokens:
        raise SpecError(f"{key}: must be (N + 1,), from 0 to the number of tokens ({n_tokens}), and grow")
    begins = torch.zeros_like(tokens, dtype=torch.bool).flatten()
    begins[bounds[bounds < n_tokens].to(tokens.device)] = True
    begins = begins.view_as(tokens)
    begins[:, 0] = False  # of every row
    return begins


def _counted_from(begins: Tensor) -> Tensor:
    """(B, T): how far behind the last beginning."""
    place = torch.arange(begins.shape[1], device=begins.device).expand_as(begins)
    return place - torch.where(begins, place, 0).cummax(1).values
