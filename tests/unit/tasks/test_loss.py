"""How predictions are judged: both kinds of labels against PyTorch's own distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal
from torch.nn import functional

from unplateau.tasks.loss import achieved, expected, log_likelihood, prediction_loss


def draw(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (3, 4, 5) and labels (3, 4)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, 5, generator=generator), torch.randint(5, (3, 4), generator=generator)


def test_classes_are_judged_by_cross_entropy() -> None:
    logits, targets = draw()
    predictions = Categorical(logits=logits.double())
    torch.testing.assert_close(prediction_loss(logits, targets).double(), -predictions.log_prob(targets).mean())
    losses, hits = achieved(predictions.probs, targets)
    torch.testing.assert_close(losses, -predictions.log_prob(targets))
    torch.testing.assert_close(log_likelihood(predictions.probs, targets), -losses)
    entropy, best = expected(predictions.probs, numbers=False)
    torch.testing.assert_close(entropy, predictions.entropy())
    assert hits is not None
    assert best is not None
    assert torch.equal(hits, (logits.argmax(2) == targets).double())
    assert torch.equal(best, predictions.probs.max(2).values)


def test_numbers_are_judged_by_squared_error() -> None:
    logits, _ = draw()
    targets = torch.linspace(-2, 2, 12).view(3, 4)
    assert prediction_loss(logits[..., :1], targets) == functional.mse_loss(logits[..., 0], targets)
    predictions = torch.stack((logits[..., 0], logits[..., 1].exp()), 2).double()
    errors, none = achieved(predictions, targets)
    torch.testing.assert_close(errors, (logits[..., 0] - targets).square().double())
    assert none is None
    assert expected(predictions, numbers=True)[1] is None
    assert torch.equal(expected(predictions, numbers=True)[0], predictions[..., 1])
    gaussian = Normal(predictions[..., 0], predictions[..., 1].sqrt())
    torch.testing.assert_close(log_likelihood(predictions, targets), gaussian.log_prob(targets.double()))


def test_to_predict_nothing_of_labels_of_variance_1_costs_1() -> None:
    labels = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    assert prediction_loss(torch.zeros(200, 50, 1), labels).item() == pytest.approx(1, abs=0.05)


def test_a_certain_prediction_of_a_number_has_a_finite_likelihood() -> None:
    certain = torch.tensor([[[0.5, 0.0], [0.5, 0.0]]], dtype=torch.float64)
    right, wrong = log_likelihood(certain, torch.tensor([[0.5, 0.6]]))[0].tolist()
    assert math.isfinite(right)
    assert wrong < right - 1e9
