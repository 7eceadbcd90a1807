"""Whether a predictor makes the most of what it may read, found without knowing the task.

The error of the best prediction from something has nothing to do with anything that can be computed from it. So labels
must be as frequent as claimed among items of each value, and no vote of the pairs before may be nearer to them: a
predictor that ignores some of these pairs is given away by what they say.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.errors import demand
from unplateau.tasks.base import Task
from unplateau.tasks.loss import ROUNDING
from unplateau.tensors import Batch, Prompts

MOST_KINDS = 8
"""Degrees of likeness by which earlier pairs are told apart, besides none."""
RIDGE = 0.1
"""Added to the diagonal of a kernel of mean diagonal 1, and everywhere for an intercept."""


@dataclass(frozen=True)
class _Claim:
    """What is claimed of N x K labels: ``predictions`` (N, K, C), with ``known`` (N, K, G) int64 of the items.

    ``labels`` (N, K): those of the task, or, where answers are words of a list, the values of their first factor.
    """

    labels: Tensor
    predictions: Tensor
    known: Tensor

    @property
    def of_numbers(self) -> bool:
        """Whether ``predictions`` are mean and variance."""
        return self.labels.is_floating_point()

    def errors(self) -> tuple[Tensor, Tensor]:
        """What came less what was expected (N, K, C), of numbers (N, K, 1), and the variance of that as claimed."""
        if self.of_numbers:
            return (self.labels - self.predictions[..., 0])[..., None], self.predictions[..., 1:] + ROUNDING
        came = functional.one_hot(self.labels, self.predictions.shape[2])
        return came - self.predictions, self.predictions * (1 - self.predictions)

    def towards(self, rival: Tensor) -> tuple[Tensor, Tensor]:
        """By how much more than expected labels are on the side of ``rival`` (N, K, C or 1), and its variance."""
        errors, variances = self.errors()
        apart = (rival - self.predictions[..., : rival.shape[2]]).clamp(-1, 1)
        if self.of_numbers:
            return errors * apart, variances * apart.square()
        mean, square = ((self.predictions * one).sum(2, keepdim=True) for one in (apart, apart.square()))
        return (errors * apart).sum(2, keepdim=True), square - mean.square()


def check_no_context(task: Task, batch: Batch, predictions: Tensor) -> None:
    """Raises LawError if a table over the values of items would predict better than these (B, K, C) predictions.

    Of each prompt one query is asked, since those of a prompt go together.
    """
    claim = _claim(task, batch, predictions)
    rows = torch.arange(len(batch))
    asked = rows % claim.labels.shape[1]
    one = _Claim(*(values[rows, asked][:, None] for values in (claim.labels, claim.predictions, claim.known)))
    _check_items(task, one, "no-context")


def check_bayes(task: Task, batch: Batch, predictions: Tensor) -> None:
    """Raises LawError if items or pairs before tell more of labels than these (B, K, C) predictions."""
    claim = _claim(task, batch, predictions)
    _check_items(task, replace(claim, known=_with_cues(claim.known, batch)), "Bayes")
    for rival in [_regression(claim, batch)] if claim.of_numbers else _votes(claim):
        used = "the Bayes predictor makes the most of the pairs before"
        demand(_by_chance(*claim.towards(rival), torch.zeros((), dtype=torch.int64)), task, used)


def _check_items(task: Task, claim: _Claim, name: str) -> None:
    errors, variances = claim.errors()
    labels, known = torch.arange(errors.shape[2]), claim.known
    whole = known.flatten(0, 1).unique(dim=0, return_inverse=True)[1].view(known.shape[:2])
    for values in (*known.unbind(2), whole):
        fits = _by_chance(errors, variances, values[..., None] * len(labels) + labels)
        demand(fits, task, f"labels are as frequent among items of each value as the {name} predictor claims")


def _by_chance(errors: Tensor, variances: Tensor, groups: Tensor) -> bool:
    """Whether in each group, numbers from 0 that broadcast, chance allows for the sum of the errors.

    Errors of exact predictions are differences of a martingale, so by Freedman's inequality (1975) a group exceeds the
    bound with a probability of 4e-8, however rare its labels are.
    """
    cells = groups.expand(errors.shape).flatten()

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(int(cells.max()) + 1, dtype=torch.float64).index_add_(0, cells, values.double().flatten())

    total, variance = summed(errors), summed(variances)
    largest = torch.zeros_like(total).scatter_reduce_(0, cells, errors.double().abs().flatten(), "amax")
    bound = 6 * variance.clamp_min(0).sqrt() + 12 * largest + 1e-9  # rounding
    return bool((total.abs() <= bound).all())


def _claim(task: Task, batch: Batch, predictions: Tensor) -> _Claim:
    known = batch.item_index + 1
    if batch.factors.shape[2]:
        known = batch.factors
    elif isinstance(batch.inputs, Prompts):
        items = batch.inputs.items
        known = (items > 0).long() if items.is_floating_point() else items
    known = known.reshape(*batch.targets.shape, -1)
    if not task.shape.labels_are_tokens or not isinstance(batch.inputs, Prompts):
        return _Claim(batch.targets, predictions, known)
    words = batch.inputs.items[..., 0] - 1  # (B, K, words of a list)
    is_answer = words == batch.targets[..., None]
    if known.shape != words.shape or not bool((is_answer.sum(2) == 1).all()):
        return _Claim(batch.targets, predictions, known)
    by_value = predictions.new_zeros(*batch.targets.shape, int(known.max()) + 1)
    by_value.scatter_add_(2, known, predictions.gather(2, words))
    return _Claim(known[is_answer].view_as(batch.targets), by_value, known)


def _with_cues(known: Tensor, batch: Batch) -> Tensor:
    """(N, K, G + 1) where prompts have cues, which stand before all items."""
    cues = batch.inputs.cues if isinstance(batch.inputs, Prompts) else None
    return known if cues is None else torch.cat((known, cues[:, None, None].expand(-1, known.shape[1], 1)), 2)


def _votes(claim: _Claim) -> Iterator[Tensor]:
    """(N, K, C): the labels of the earlier pairs of a kind, with the claim for one pair more."""
    labels = functional.one_hot(claim.labels, claim.predictions.shape[2]).double()
    for kind in (*_kinds(claim.known), *_in_agreement(claim.known, claim.labels)):
        votes = kind.double() @ labels
        yield (votes + claim.predictions) / (votes.sum(2, keepdim=True) + 1)


def _kinds(known: Tensor) -> Iterator[Tensor]:
    """(N, K, K) bool: pairs before each query: all, the last one, those that share so many values with it."""
    before = torch.ones(known.shape[1], known.shape[1], dtype=torch.bool).tril(-1)
    yield before.expand(len(known), -1, -1)
    yield before.triu(-1).expand(len(known), -1, -1)
    n_kinds = min(known.shape[2], MOST_KINDS)
    kind = _shared(known) * n_kinds // known.shape[2]
    for number in range(n_kinds + 1):
        yield before & (kind == number)


def _in_agreement(known: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """(N, K, K) bool: earlier pairs that share with a query any, or all, of what has agreed with the labels so far.

    What takes the same value in two pairs with different labels does not decide the label.
    """
    differ = (labels[:, :, None] != labels[:, None]).tril(-1)
    some, every = torch.zeros_like(differ), torch.ones_like(differ).tril(-1)
    for values in known.unbind(2):
        same = (values[:, :, None] == values[:, None]).tril(-1)
        clashes = (same & differ).any(2)[..., None]
        agrees = (clashes.cumsum(1) - clashes.long()) == 0  # (N, K, 1): up to the pair before
        some, every = some | (same & agrees), every & (same | ~agrees)
    yield some
    yield every & some


def _shared(known: Tensor) -> Tensor:
    """(N, K, K) int64: how many values two items share."""
    shared = torch.zeros(*known.shape[:2], known.shape[1], dtype=torch.int64)
    for values in known.unbind(2):
        shared += values[:, :, None] == values[:, None]
    return shared


def _regression(claim: _Claim, batch: Batch) -> Tensor:
    """(N, K, 1): ridge regression on the pairs before, where items have no factors on their vectors."""
    labels, kernel = claim.labels.double(), _shared(claim.known).double()
    if isinstance(batch.inputs, Prompts) and not batch.factors.shape[2] and batch.inputs.items.is_floating_point():
        vectors = batch.inputs.items.double().flatten(2)
        kernel = vectors @ vectors.mT
    kernel = kernel / kernel.diagonal(dim1=1, dim2=2).mean() + RIDGE
    guesses = [claim.predictions[:, 0, :1]]
    for k in range(1, labels.shape[1]):
        shares = torch.linalg.solve(kernel[:, :k, :k] + RIDGE * torch.eye(k), labels[:, :k])
        guesses.append((kernel[:, k, :k] * shares).sum(1, keepdim=True))
    return torch.stack(guesses, 1)
