"""How sure a score is: the standard error of a mean over examples that are not independent."""

import torch
from torch import Tensor


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
