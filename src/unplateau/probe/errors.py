"""How sure a score is: the standard error of a mean over examples that are not independent, and scores with theirs."""

import torch
from torch import Tensor

from unplateau.layout import Cut
from unplateau.scores import ProbeScore, ScoreKind


def standard_error(values: Tensor, cluster: Tensor) -> Tensor:
    """(L,) or (L, F): of the mean over N of ``values`` (L, N) or (L, N, F); NaN for a single cluster.

    ``cluster`` (N,): examples of one cluster, such as an item that was asked for several times, may vary together; only
    clusters count as independent (Liang and Zeger 1986).
    """
    distinct, number = cluster.unique(return_inverse=True)
    n_clusters = len(distinct)
    apart = values - values.mean(1, keepdim=True)
    sums = torch.zeros(len(values), n_clusters, *values.shape[2:], dtype=values.dtype).index_add_(1, number, apart)
    if n_clusters < 2:
        return torch.full_like(sums.sum(1), torch.nan)
    return sums.square().sum(1).sqrt() / len(cluster) * (n_clusters / (n_clusters - 1)) ** 0.5


def known_error(error: Tensor) -> float | None:
    """None where there is one item or prompt only."""
    return None if bool(error.isnan()) else float(error)


def of_layers(
    accuracy: Tensor,
    control: Tensor,
    error: Tensor,
    *,
    chance: float,
    n_test: int,
    kind: ScoreKind,
    factor: str,
    cut: Cut,
    first: int = 0,
) -> list[ProbeScore]:
    """One score of hidden states for each layer (L,), the first being number ``first``."""
    return [
        ProbeScore(
            layer=layer,
            factor=factor,
            accuracy=float(value),
            chance=chance,
            control_accuracy=float(of_control),
            n_test=n_test,
            component="hidden",
            cut=cut,
            kind=kind,
            error=known_error(of_error),
        )
        for layer, (value, of_control, of_error) in enumerate(zip(accuracy, control, error, strict=True), first)
    ]
