"""Exact Bayesian prediction for hidden factors and mappings, one query after the other.

Each hypothesis is "the hidden factor is f". It predicts by itself: (B, C) joint weights, the evidence of the pairs
before query k times the probability of each label there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Hypothesis(Protocol):
    """One explanation of a prompt, with prior weight 1 unless it says otherwise itself."""

    def predict(self, k: int) -> Tensor:
        """(B, C): evidence of all that stands before query k, times the probability of each label there."""

    def observe(self, k: int, labels: Tensor) -> None:
        """Takes in the labels (B,) of query k."""


def bayes_predictions(hypotheses: Sequence[Hypothesis], labels: Tensor) -> Tensor:
    """(B, K, C) float64 predictions under equal prior weights.

    Rows whose labels no hypothesis allows get zeros.
    """
    joints = [joint.sum(0) for joint in _joints(hypotheses, labels)]  # (B, C)
    return torch.stack([_normalised(joint) for joint in joints], 1)


def choice_chances(hypotheses: Sequence[Hypothesis], labels: Tensor) -> Tensor:
    """(B, K, H) float64: how probable each hypothesis is before query k, under equal prior weights."""
    evidence = [joint.sum(2).T for joint in _joints(hypotheses, labels)]  # (B, H)
    return torch.stack([_normalised(one) for one in evidence], 1)


def _joints(hypotheses: Sequence[Hypothesis], labels: Tensor) -> Iterator[Tensor]:
    """(H, B, C) for each query: what all hypotheses predict, before they observe its label."""
    for k in range(labels.shape[1]):
        yield torch.stack([hypothesis.predict(k) for hypothesis in hypotheses])
        for hypothesis in hypotheses:
            hypothesis.observe(k, labels[:, k])


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


class FreshMappings:
    """All n! mappings are equally likely: after k distinct values the evidence is (n - k)! / n!, or 0."""

    def __init__(self, values: Tensor, size: int, n_labels: int) -> None:
        self.values, self.size = values, size
        n_rows = len(values)
        self.label_of = torch.full((n_rows, size), -1)  # value -> label seen with it
        self.unused = torch.ones(n_rows, n_labels, dtype=torch.float64)
        self.unused[:, size:] = 0
        self.log_evidence = torch.zeros(n_rows, dtype=torch.float64)

    def predict(self, k: int) -> Tensor:
        """(B, C): the label seen with this value, else uniform over the labels not seen yet."""
        seen = self.label_of.gather(1, self.values[:, k, None])  # (B, 1)
        certain = torch.zeros_like(self.unused).scatter_(1, seen.clamp_min(0), 1)
        open_ = self.unused / self.unused.sum(1, keepdim=True).clamp_min(1)
        return self.log_evidence.exp()[:, None] * torch.where(seen >= 0, certain, open_)

    def observe(self, k: int, labels: Tensor) -> None:
        """A contradiction ends the hypothesis; a new value uses up its label."""
        value, label = self.values[:, k, None], labels[:, None]
        seen = self.label_of.gather(1, value)
        free = self.unused.gather(1, label)
        n_free = self.unused.sum(1).clamp_min(1)
        possible = torch.where(seen >= 0, seen == label, free > 0).squeeze(1)
        self.log_evidence -= torch.where(seen.squeeze(1) >= 0, torch.zeros_like(n_free), n_free.log())
        self.log_evidence[~possible] = -math.inf
        self.label_of.scatter_(1, value, label)
        self.unused.scatter_(1, label, 0)


class KnownMappings:
    """The m mappings of a known table are equally likely; equal ones count together."""

    def __init__(self, values: Tensor, table: Tensor, n_labels: int) -> None:
        self.values, self.n_labels = values, n_labels
        self.table, counts = table.unique(dim=0, return_counts=True)  # (m', n_f)
        self.alive = (counts.double() / counts.sum()).expand(len(values), -1).clone()  # (B, m')

    def predict(self, k: int) -> Tensor:
        """(B, C): each living mapping votes for its label."""
        votes = self.table.T[self.values[:, k]]  # (B, m')
        joint = torch.zeros(len(votes), self.n_labels, dtype=torch.float64)
        return joint.scatter_add_(1, votes, self.alive)

    def observe(self, k: int, labels: Tensor) -> None:
        """Mappings that say otherwise die."""
        self.alive *= self.table.T[self.values[:, k]] == labels[:, None]


def mixture_moments(weights: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (...) of mixtures over the last dimension."""
    mean = (weights * means).sum(-1)
    return mean, (weights * (variances + (means - mean[..., None]).square())).sum(-1)
