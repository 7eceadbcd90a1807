"""What must hold for every probe: invariances, and the two ends of the scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unplateau.probe import Accuracies, Examples, probe_accuracies
from unplateau.probe.linear import Method

METHODS: tuple[Method, ...] = ("discriminant", "logistic")
SIZES = (2, 4)
seeds = st.integers(0, 2**32 - 1)
methods = st.sampled_from(METHODS)
few = settings(max_examples=6, deadline=None)


def draw(seed: int, signal: float = 1.0, n: int = 120, width: int = 6) -> tuple[Examples, Examples]:
    """Train and test examples of two layers whose features carry the labels with this strength."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(sum(SIZES), width, generator=generator, dtype=torch.float64)

    def half() -> Examples:
        labels = torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], 1)
        noise = torch.randn(2, n, width, generator=generator, dtype=torch.float64)
        return Examples(noise + signal * (codes[labels[:, 0]] + codes[2 + labels[:, 1]]), labels, torch.arange(n))

    return half(), half()


def score(pair: tuple[Examples, Examples], method: Method) -> Accuracies:
    return probe_accuracies(*pair, SIZES, method=method)


def with_features(pair: tuple[Examples, Examples], change: object) -> tuple[Examples, Examples]:
    train, test = (Examples(change(one.features), one.labels, one.group) for one in pair)  # type: ignore[operator]
    return train, test


def same(one: Accuracies, other: Accuracies, examples: int = 1) -> bool:
    """Equal up to ``examples`` predictions that rounding may tip."""
    tolerance = (examples + 0.5) / one.n_test
    return bool((one.accuracy - other.accuracy).abs().max() < tolerance) and bool(
        (one.control - other.control).abs().max() < tolerance
    )


@few
@given(seeds, methods, st.floats(1e-4, 1e4), st.floats(-100, 100))
def test_units_and_offsets_of_features_change_nothing(seed: int, method: Method, scale: float, offset: float) -> None:
    pair = draw(seed)
    scales = scale ** torch.linspace(-1, 1, 6, dtype=torch.float64)
    moved = with_features(pair, lambda features: (features + offset) * scales)
    assert same(score(pair, method), score(moved, method))


@few
@given(seeds, methods, st.permutations(range(6)))
def test_the_order_of_features_changes_nothing(seed: int, method: Method, order: list[int]) -> None:
    pair = draw(seed)
    assert same(score(pair, method), score(with_features(pair, lambda features: features[..., order]), method))


@few
@given(seeds, methods, st.permutations(range(4)))
def test_the_names_of_classes_change_nothing(seed: int, method: Method, names: list[int]) -> None:
    pair = draw(seed)

    def rename(one: Examples) -> Examples:
        renamed = torch.stack((one.labels[:, 0], torch.tensor(names)[one.labels[:, 1]]), 1)
        return Examples(one.features, renamed, one.group)

    assert same(score(pair, method), score((rename(pair[0]), rename(pair[1])), method))


@few
@given(seeds)
def test_a_rotation_of_the_features_changes_next_to_nothing(seed: int) -> None:
    """Exactly nothing without a penalty; with it, standardised axes are not quite the same space."""
    pair = draw(seed, signal=2)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    turned = with_features(pair, lambda features: features @ rotation)
    found = (probe_accuracies(*one, SIZES, penalty=1e-4) for one in (pair, turned))
    assert same(*found, 3)


@few
@given(seeds, methods)
def test_layers_and_factors_are_probed_as_if_alone(seed: int, method: Method) -> None:
    pair = draw(seed)
    together = score(pair, method).accuracy
    for layer in range(2):
        for factor, size in enumerate(SIZES):
            train, test = (
                Examples(one.features[layer : layer + 1], one.labels[:, factor : factor + 1], one.group) for one in pair
            )
            alone = probe_accuracies(train, test, (size,), method=method).accuracy
            assert float((alone - together[layer, factor]).abs().max()) <= 1.5 / 120


@few
@given(seeds, methods)
def test_separable_classes_are_read_perfectly_and_their_control_is_not(seed: int, method: Method) -> None:
    train, test = draw(seed, signal=0)

    def written(one: Examples) -> Examples:
        codes = [torch.nn.functional.one_hot(one.labels[:, f], size) for f, size in enumerate(SIZES)]
        return Examples(torch.cat(codes, 1).double().expand(2, -1, -1), one.labels, one.group)

    result = score((written(train), written(test)), method)
    assert bool((result.accuracy == 1).all())
    assert bool(((result.control - result.chance).abs() < 0.3).all())


@pytest.mark.parametrize("method", METHODS)
def test_the_control_and_features_of_noise_are_near_chance(method: Method) -> None:
    informative = score(draw(0, signal=3, n=2000), method)
    noise = score(draw(1, signal=0, n=2000), method)
    expected = torch.tensor([1 / 2, 1 / 4], dtype=torch.float64)
    for near_chance in (informative.control, noise.accuracy, noise.control):
        assert float((near_chance - expected).abs().max()) < 0.06  # 5 standard errors
    assert bool((informative.accuracy > 0.7).all())


@few
@given(seeds, methods, st.integers(0, 5), st.floats(-1e6, 1e6))
def test_dead_features_change_nothing(seed: int, method: Method, rank: int, constant: float) -> None:
    """Constant columns and copies of other columns: singular covariances, never NaN."""
    pair = draw(seed)

    def add(features: Tensor) -> Tensor:
        return torch.cat((features, torch.full_like(features[..., :2], constant)), -1)

    assert same(score(pair, method), score(with_features(pair, add), method))
    deficient = score(with_features(pair, lambda features: features[..., [rank] * 6] * 1.0), method)
    assert bool(deficient.accuracy.isfinite().all())
    assert bool((deficient.accuracy <= 1).all())
