"""What the labels of prompts are, among the arguments of anybody's model.

Legend: B prompts, M items, K labels, V items whose label is known (K or M), T positions, C size of a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unplateau.errors import SpecError
from unplateau.integrations.pairs import Pairs


@dataclass(frozen=True)
class Reading:
    """How values are made of labels as a batch has them, decided once, for the first batch.

    ``coordinate``: the only one of a vector that varies, if it is so. ``classes``: whether equal labels are one class,
    or labels are numbers.
    """

    classes: bool
    coordinate: int | None = None

    def __call__(self, found: Tensor) -> Tensor:
        """(B, V): classes (int64) or numbers (float32), from (B, V) or (B, V, C)."""
        if found.ndim == 3 and self.coordinate is not None:
            found = found[..., self.coordinate]
        if not self.classes:
            return found.float()
        if found.ndim == 3:
            return found.flatten(0, 1).unique(dim=0, return_inverse=True)[1].unflatten(0, found.shape[:2])
        return found.round().long() if found.is_floating_point() else found.long()

    def __str__(self) -> str:
        kind = "classes" if self.classes else "numbers"
        return kind if self.coordinate is None else f"{kind} in coordinate {self.coordinate} of the vectors"


def reading_of(found: Tensor, name: str) -> Reading:
    """How to read labels (B, V) or (B, V, C).

    Integers are classes. Of vectors, equal ones are one class, unless one coordinate alone varies, which is then read
    by itself. Floating numbers are numbers, unless all are whole and so few that they recur in a prompt: then classes.
    Raises SpecError for vectors that do not recur, and for other dtypes.
    """
    if found.is_complex():
        raise SpecError(f"{name}: labels must be integers or real numbers, got {found.dtype}")
    coordinate = None
    if found.ndim == 3:
        varying = (found != found[:1, :1]).flatten(0, 1).any(0).nonzero()[:, 0].tolist()
        if len(varying) > 1:
            distinct = len(found.flatten(0, 1).unique(dim=0))
            if 2 * distinct > found.shape[0] * found.shape[1]:
                raise SpecError(
                    f"{name}: labels are vectors that do not recur; give values=, a number or class for each"
                )
            return Reading(classes=True)
        coordinate = varying[0] if varying else 0
        found = found[..., coordinate]
    if not found.is_floating_point():
        return Reading(classes=True, coordinate=coordinate)
    few = len(found.unique()) <= found.shape[1]
    return Reading(classes=few and bool((found == found.round()).all()), coordinate=coordinate)


def find_labels(tensors: Mapping[str, Tensor], pairs: Pairs, n_positions: int) -> tuple[str, bool]:
    """The name of the tensor that holds the labels, and whether it has one for each position of a prompt.

    It is the one tensor with a label for each pair, (B, K) or (B, K, 1) before (B, K, C), or else what stands at the
    labels in the one tensor (B, T) or (B, T, C). Raises SpecError, naming what there is, if there is no such one.
    """
    n_rows, n_items = pairs.items.shape
    candidates = {
        name: one
        for name, one in tensors.items()
        if one.ndim in (2, 3) and len(one) == n_rows and one.dtype != torch.bool and not _is_about_positions(name)
    }
    by_pair = {name: one for name, one in candidates.items() if one.shape[1] in (n_items, pairs.labels.shape[1])}
    plain = [name for name, one in by_pair.items() if one.ndim == 2 or one.shape[2] == 1]
    recurring = [
        name for name, one in by_pair.items() if 2 * len(one.flatten(0, 1).unique(dim=0)) <= one.shape[:2].numel()
    ]
    by_position = [] if by_pair else [name for name, one in candidates.items() if one.shape[1] == n_positions]
    for found in (plain, recurring, by_position):
        if len(found) == 1:
            return found[0], found is by_position
    what = ", ".join(f"{name} {tuple(one.shape)}" for name, one in tensors.items()) or "no tensor"
    raise SpecError(
        f"values: which of the arguments are the labels of {pairs.labels.shape[1]} pairs is not clear ({what}): give "
        "values=, a function of them"
    )


def _is_about_positions(name: str) -> bool:
    return "mask" in name or "position" in name
