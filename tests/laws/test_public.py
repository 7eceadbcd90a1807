"""Every kind that `unplateau` exports keeps its laws: the names are walked, so that none can be forgotten."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unplateau as up
from unplateau.config import Kind
from unplateau.decompose import Architecture
from unplateau.items.base import ItemSource
from unplateau.items.shapes3d.images import Grid
from unplateau.strategies.base import Curriculum, LossTerm
from unplateau.tasks.base import Task
from unplateau.testing import check_curriculum, check_loss_term, check_model, check_task

CODES = up.FactorTask(source=up.RandomCodes(sizes=(4, 3), width=12), n_pairs=5)
SPEC = up.RunSpec(task=CODES, model=up.ModelConfig(n_layers=2, width=16), train=up.TrainConfig(batch_size=8))


def exported(family: type[Any]) -> list[type[Any]]:
    """The concrete classes of a family that the package exports."""
    named = [getattr(up, name) for name in dir(up)]
    return [one for one in named if isinstance(one, type) and issubclass(one, family) and not inspect.isabstract(one)]


def shapes_file(folder: Path) -> up.Shapes3DFile:
    """A file laid out like 3dshapes.h5, of 64 small images."""
    h5py = pytest.importorskip("h5py", reason="needs h5py (extra h5)")
    twos = (0, 1)
    grid = Grid(floor_hue=twos, wall_hue=twos, object_hue=twos, scale=twos, shape=twos, orientation=twos)
    rendered = up.Shapes3D(image_size=8, grid=grid, encoder="pixels")
    every = np.arange(64)
    with h5py.File(folder / "3dshapes.h5", "w") as file:
        file["images"] = rendered.images(rendered.split("train").new_tensor(every))
        file["labels"] = rendered.factors().numpy().astype(np.float64)
    return up.Shapes3DFile(path=folder / "3dshapes.h5", encoder="pixels")


MADE: dict[type[Kind], Callable[[Path], Kind]] = {
    up.Shapes3D: lambda _: up.Shapes3D.small(),
    up.Shapes3DFile: shapes_file,
    up.Amplified: lambda _: up.Amplified(source=CODES.source, factors_amplified=("a",)),
    up.FactorTask: lambda _: CODES,
    up.Mixture: lambda _: up.Mixture(tasks=(CODES.fixed(), CODES), shares=(0.5, 0.5)),
}
"""Of classes that need arguments, or are large without; of all others the defaults are checked."""


def made(kind: type[Any], folder: Path) -> Any:
    return MADE[kind](folder) if kind in MADE else kind()


@pytest.mark.parametrize("source", exported(ItemSource), ids=lambda kind: kind.__name__)
def test_a_task_over_every_source(source: type[ItemSource], tmp_path: Path) -> None:
    check_task(up.FactorTask(source=made(source, tmp_path), n_pairs=6), n_prompts=512)


@pytest.mark.parametrize("task", exported(Task), ids=lambda kind: kind.__name__)
def test_every_task(task: type[Task], tmp_path: Path) -> None:
    check_task(made(task, tmp_path), n_prompts=512)


@pytest.mark.parametrize("curriculum", exported(Curriculum), ids=lambda kind: kind.__name__)
def test_every_curriculum(curriculum: type[Curriculum]) -> None:
    check_curriculum(curriculum(), SPEC.task, n_steps=20)


@pytest.mark.parametrize("term", exported(LossTerm), ids=lambda kind: kind.__name__)
def test_every_loss_term(term: Any) -> None:
    check_loss_term(term(), SPEC)


@pytest.mark.parametrize("architecture", exported(Architecture), ids=lambda kind: kind.__name__)
def test_every_architecture(architecture: type[Any]) -> None:
    model = architecture().build(CODES.shape, seed=0)
    check_model(model, CODES.sample(0, batch_size=3).inputs)


@pytest.mark.parametrize("family", [Task, ItemSource, Curriculum, LossTerm, Architecture])
def test_the_walk_finds_members_of_every_family(family: type[Kind]) -> None:
    assert exported(family)
