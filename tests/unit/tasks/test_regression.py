"""In-context linear regression: the exact predictors agree with independent computations and with what is drawn."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.tasks.floors import floors
from unplateau.tasks.mixture import Mixture
from unplateau.tasks.regression import LinearRegression
from unplateau.tensors import Batch, Prompts

few = settings(max_examples=25, deadline=None)
dimensions = st.integers(1, 5)


def arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Items (B, K, d) and labels (B, K)."""
    assert isinstance(batch.inputs, Prompts)
    return batch.inputs.items.double().numpy(), batch.targets.double().numpy()


def conditional(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, prior: float, noise: float
) -> tuple[float, float, float]:
    """Mean and variance of the label of ``new`` given y = x w + noise, and the log density of y."""
    of_y = prior * x @ x.T + noise * np.eye(len(x))
    across = prior * x @ new
    solved = np.linalg.solve(of_y, np.column_stack((y, across)))
    density = -0.5 * (y @ solved[:, 0] + np.linalg.slogdet(2 * math.pi * of_y)[1])
    return float(across @ solved[:, 0]), float(prior * new @ new - across @ solved[:, 1] + noise), density


@few
@given(dimensions, st.sampled_from([0.1, 0.5, 2.0]), st.integers(0, 1000))
def test_the_posterior_equals_the_joint_gaussian_of_labels(dimension: int, noise: float, seed: int) -> None:
    task = LinearRegression(dimension=dimension, noise=noise, n_pairs=8)
    batch = task.sample(seed, batch_size=3)
    found, (items, labels) = task.bayes_predictions(batch), arrays(batch)
    unit = 1 + noise**2
    for row, k in itertools.product(range(3), range(8)):
        mean, variance, _ = conditional(
            items[row, :k], labels[row, :k], items[row, k], 1 / dimension / unit, noise**2 / unit
        )
        assert found[row, k].tolist() == pytest.approx([mean, variance], rel=1e-8, abs=1e-10)


@few
@given(dimensions, st.integers(0, 1000))
def test_without_noise_it_is_least_squares_of_least_norm(dimension: int, seed: int) -> None:
    """The mean follows from the pseudo-inverse, the variance is that of the part of x which no pair before has."""
    task = LinearRegression(dimension=dimension, n_pairs=dimension + 3)
    batch = task.sample(seed, batch_size=3)
    found, (items, labels) = task.bayes_predictions(batch).numpy(), arrays(batch)
    for row, k in itertools.product(range(3), range(dimension + 3)):
        weights, _, rank, singular = np.linalg.lstsq(items[row, :k], labels[row, :k], rcond=None)
        basis = np.linalg.svd(items[row, :k])[2][:rank] if k else np.zeros((0, dimension))
        left = items[row, k] - basis.T @ (basis @ items[row, k])
        exactness = 1e-5 / min(singular, default=1.0) ** 2  # labels are float32
        assert found[row, k, 0] == pytest.approx(items[row, k] @ weights, abs=exactness)
        assert found[row, k, 1] == pytest.approx(left @ left / dimension, abs=1e-6)
        assert k < dimension or found[row, k, 1] < 1e-6


@few
@given(st.integers(1, 4), st.sampled_from([0.2, 1.0]), st.integers(0, 1000))
def test_sparse_weights_are_a_mixture_over_all_supports(sparsity: int, noise: float, seed: int) -> None:
    task = LinearRegression(dimension=4, sparsity=sparsity, noise=noise, n_pairs=6)
    batch = task.sample(seed, batch_size=2)
    found, densities, (items, labels) = task.bayes_predictions(batch), task.label_log_likelihood(batch), arrays(batch)
    supports = [list(one) for one in itertools.combinations(range(4), sparsity)]
    unit = 1 + noise**2
    for row, k in itertools.product(range(2), range(6)):
        seen, new, prior = items[row, :k], items[row, k], 1 / sparsity / unit
        parts = np.array(
            [conditional(seen[:, own], labels[row, :k], new[own], prior, noise**2 / unit) for own in supports]
        )
        weights = np.exp(parts[:, 2] - parts[:, 2].max())
        weights /= weights.sum()
        mean = weights @ parts[:, 0]
        variance = weights @ (parts[:, 1] + parts[:, 0] ** 2) - mean**2
        assert found[row, k].tolist() == pytest.approx([mean, variance], rel=1e-7, abs=1e-10)
        density = weights @ (
            np.exp(-((labels[row, k] - parts[:, 0]) ** 2) / parts[:, 1] / 2) / np.sqrt(2 * math.pi * parts[:, 1])
        )
        assert densities[row, k].item() == pytest.approx(math.log(density), abs=1e-7)


def test_one_weight_by_quadrature() -> None:
    """Prior times likelihood on a grid of weights: no linear algebra at all."""
    task = LinearRegression(dimension=1, noise=0.7, n_pairs=5)
    batch = task.sample(0, batch_size=4)
    found, (items, labels) = task.bayes_predictions(batch), arrays(batch)
    unit = math.sqrt(1 + 0.7**2)
    grid = np.linspace(-8, 8, 20_001)
    for row, k in itertools.product(range(4), range(5)):
        errors = labels[row, :k, None] * unit - items[row, :k] * grid
        weights = np.exp(-(grid**2) / 2 - (errors**2).sum(0) / 2 / 0.7**2)
        weights /= weights.sum()
        guesses = items[row, k, 0] * grid / unit
        mean = weights @ guesses
        variance = weights @ (guesses - mean) ** 2 + 0.7**2 / unit**2
        assert found[row, k].tolist() == pytest.approx([mean, variance], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_a_table_is_weighed_by_its_likelihood(noise: float) -> None:
    task = LinearRegression(n_mappings=3, noise=noise, n_pairs=5)
    batch = task.sample(0, batch_size=20)
    found, (items, labels), table = task.bayes_predictions(batch), arrays(batch), task._table().numpy()  # type: ignore[union-attr]
    guesses = items @ table.T  # (B, K, m)
    unit = 1 + noise**2
    for row, k in itertools.product(range(20), range(5)):
        errors = ((labels[row, :k, None] - guesses[row, :k]) ** 2).sum(0)
        log_weights = -errors / 2 / max(noise**2 / unit, 1e-12)
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        mean = weights @ guesses[row, k]
        variance = weights @ (guesses[row, k] - mean) ** 2 + noise**2 / unit
        assert found[row, k].tolist() == pytest.approx([mean, variance], rel=1e-6, abs=1e-9)
    if not noise:  # one pair settles which vector it is
        assert found[:, 1:, 1].max() < 1e-9


@pytest.mark.parametrize("data", [{}, {"noise": 0.5}, {"sparsity": 2}, {"sparsity": 2, "noise": 1.0}])
def test_labels_have_variance_1_so_that_the_plateau_is_at_1(data: dict[str, float]) -> None:
    task = LinearRegression.model_validate(data)
    labels = task.sample(0, batch_size=20_000).targets
    assert labels.square().mean().item() == pytest.approx(1, abs=0.02)
    assert floors(task).no_context_loss == pytest.approx([1.0] * 16)


def test_without_noise_d_pairs_tell_all() -> None:
    """Before, each takes away one of d directions."""
    found = floors(LinearRegression()).bayes_loss
    assert found[:5] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2], abs=0.03)
    assert max(found[5:]) < 1e-6


def test_the_bayes_loss_falls_to_the_noise() -> None:
    found = floors(LinearRegression(noise=0.5, n_pairs=60)).bayes_loss
    assert 0.2 < found[-1] < 0.23
    assert all(one >= 0.2 for one in found)


def test_weights_are_sparse_and_each_support_as_likely() -> None:
    task = LinearRegression(dimension=4, sparsity=2)
    weights = task._draw_weights(6000, torch.Generator().manual_seed(0))
    supports, counts = (weights != 0).int().unique(dim=0, return_counts=True)
    assert len(supports) == 6
    assert bool((supports.sum(1) == 2).all())
    assert (counts / 6000 - 1 / 6).abs().max() < 0.02


def test_d_fix_has_one_vector_and_variants_have_others() -> None:
    task = LinearRegression()
    items, labels = arrays(task.fixed().sample(0, batch_size=64))
    weights, residual, *_ = np.linalg.lstsq(items.reshape(-1, 5), labels.flatten(), rcond=None)
    assert float(residual[0]) < 1e-9
    assert weights.tolist() == pytest.approx(task.fixed()._table()[0].tolist(), abs=1e-5)  # type: ignore[index]
    assert not torch.equal(task.fixed(1)._table(), task.fixed()._table())  # type: ignore[arg-type]


def test_the_control_has_nothing_to_do_with_its_items() -> None:
    task = LinearRegression().shuffled().fixed()
    items, labels = arrays(task.sample(0, batch_size=3000))
    weights, *_ = np.linalg.lstsq(items.reshape(-1, 5), labels.flatten(), rcond=None)
    assert np.abs(weights).max() < 0.02


def test_a_mixture_tells_its_tasks_apart_by_the_labels() -> None:
    parts = LinearRegression().fixed(), LinearRegression()
    mixture = Mixture(tasks=parts, shares=(0.5, 0.5))
    batch = parts[0].sample(0, batch_size=200)
    torch.testing.assert_close(mixture.bayes_predictions(batch)[:, 2:], parts[0].bayes_predictions(batch)[:, 2:])
    batch = parts[1].sample(0, batch_size=200)
    torch.testing.assert_close(mixture.bayes_predictions(batch)[:, 2:], parts[1].bayes_predictions(batch)[:, 2:])
    known = parts[0].no_context_predictions(batch)[..., 0]  # w.x, with probability 1 / 2 each
    found = mixture.no_context_predictions(batch)
    torch.testing.assert_close(found[..., 0], known / 2)
    torch.testing.assert_close(found[..., 1], 1 / 2 + known.square() / 4)


def test_an_item_alone_tells_the_mean_and_the_spread_over_the_vectors_of_a_table() -> None:
    for data in ({"n_mappings": 1}, {"n_mappings": 4}, {"n_mappings": 20_000, "sparsity": 2}):
        task = LinearRegression.model_validate({"noise": 0.5, **data})
        batch = task.sample(0, batch_size=3)
        table, (items, _) = task._table(), arrays(batch)
        assert table is not None
        products = items @ table.numpy().T  # (B, K, m)
        found = task.no_context_predictions(batch).numpy()
        np.testing.assert_allclose(found[..., 0], products.mean(2), atol=1e-9)
        np.testing.assert_allclose(found[..., 1], products.var(2) + 0.2, atol=1e-9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sparsity": 6}, "sparsity 6 is more than the 5 weights"),
        ({"dimension": 20, "sparsity": 5}, "15504 sets of nonzero weights, at most 2000"),
        ({"noise": -1}, "noise"),
        ({"n_pairs": 1}, "n_pairs"),
    ],
)
def test_what_cannot_work_is_refused(data: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearRegression.model_validate(data)
