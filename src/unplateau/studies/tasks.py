"""The tasks of docs/results.md, which studies train on."""

from collections.abc import Callable, Mapping

from unplateau import recipes
from unplateau.items.codes import RandomCodes
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec


def hues() -> RunSpec:
    """The images of ``shapes``, of which a prompt hides one of the two hues of the background."""
    plain = recipes.shapes()
    hidden = {"hidden": ("floor_hue", "wall_hue")}
    return plain.model_copy(update={"recipe": "two-hues", "task": plain.task.model_copy(update=hidden)})


def codes() -> RunSpec:
    """Codes of a random network, of whose three factors a prompt hides one."""
    return RunSpec(recipe="random-codes", task=FactorTask(source=RandomCodes(), n_pairs=16))


TASKS: Mapping[str, Callable[[], RunSpec]] = {
    "shapes": recipes.shapes,
    "two-hues": hues,
    "random-codes": codes,
    "words": recipes.words,
    "word-selection": recipes.word_selection,
    "recall": recipes.recall,
    "clusters": recipes.clusters,
    "regression": recipes.regression,
    "parity": recipes.parity,
}
"""Those of docs/results.md."""
