from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch

from unplateau.errors import MissingExtraError
from unplateau.items import digits
from unplateau.items.base import ItemSource
from unplateau.items.digits import Digits

pytest.importorskip("sklearn", reason="needs scikit-learn (extra digits)")

EVERY = torch.arange(1797)


def test_one_factor_of_ten_values() -> None:
    source = Digits()
    assert source.factor_names == ("class",)
    assert source.factor_sizes == (10,)
    assert source.factors().shape == (1797, 1)
    assert source.factors().unique().tolist() == list(range(10))


def test_the_split_is_disjoint_and_complete() -> None:
    train, test = Digits().split("train"), Digits().split("test")
    assert torch.equal(torch.cat([train, test]).sort().values, EVERY)


def test_vectors_are_standardised_on_the_train_images() -> None:
    source = Digits()
    train = source.vectors(source.split("train"))
    assert train.dtype == torch.float32
    torch.testing.assert_close(train.mean(dim=0), torch.zeros(64), atol=1e-4, rtol=0)
    assert train.var(dim=0, correction=0).mean().item() == pytest.approx(1, abs=1e-4)
    assert not torch.equal(Digits(split_seed=1).vectors(EVERY), source.vectors(EVERY))


def test_a_vector_does_not_depend_on_its_batch() -> None:
    source, index = Digits(), torch.tensor([[5, 700], [700, 1796]])
    assert source.vectors(index).shape == (2, 2, source.form.width)
    assert torch.equal(source.vectors(index), source.vectors(EVERY)[index])


def test_pictures_show_the_pixels() -> None:
    source = Digits()
    images = source.images(torch.tensor([[0, 1, 2]]))
    assert images.shape == (1, 3, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images.max() <= 255
    assert images.max() > 200
    assert np.array_equal(images[..., 0], images[..., 2])
    spread = (
        source.vectors(EVERY)[:, 36].std() / torch.from_numpy(source.images(EVERY)[:, 16, 16, 0].astype(float)).std()
    )
    shown = source.images(torch.tensor([0, 1]))[:, 16, 16, 0].astype(float)
    felt = source.vectors(torch.tensor([0, 1]))[:, 36]
    assert (felt[1] - felt[0]).item() == pytest.approx((shown[1] - shown[0]) * spread.item(), abs=0.05)


def test_it_is_a_value() -> None:
    source = Digits(split_seed=3)
    assert ItemSource.model_validate(source.model_dump(mode="json")) == source


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    digits._scans.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'unplateau\[digits\]'"):
        Digits().factors()
