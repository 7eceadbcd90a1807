"""``unplateau probe``: what the layers of a trained model know."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from unplateau.cli.console import number, print_json, print_table

if TYPE_CHECKING:
    from unplateau.types import ProbeScore

Trained = Annotated[Path, Positional, arg(metavar="RUN|MODEL")]


def probe(
    model: Trained,
    /,
    *,
    component: Literal["weights", "context", "hidden"] = "weights",
    cut: Literal["self", "identity", "zero"] = "self",
    n_train: int = 4096,
    n_test: int = 4096,
    method: Literal["ridge", "logistic"] = "ridge",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Probes every layer of a trained model: held-out accuracy of a linear read-out, with chance and control.

    The weights component is the hidden state that the same weights compute with no access to other positions; the cut
    says what "no access" means. The context component is the rest. Layer 0 is the embedding.

    Args:
        model: a run directory (its newest checkpoint is taken), or one folder under its checkpoints
        component: weights or hidden (read out: each factor of the item), context (read out: which factor is hidden)
        cut: self (a position sees itself only), identity (attention returns its own input), zero (it adds nothing)
        n_train: examples (positions) that probes are fitted on
        n_test: held-out examples
        method: ridge regression or multinomial logistic regression
        seed: decides which prompts are drawn
        json: print JSON instead of a table
    """
    from unplateau.probe import probe_components  # noqa: PLC0415 (torch)
    from unplateau.train.load import load_model  # noqa: PLC0415

    spec, trained = load_model(model)
    scores = probe_components(
        trained, spec.task, component=component, cut=cut, n_train=n_train, n_test=n_test, method=method, seed=seed
    )
    if json:
        print_json([asdict(score) for score in scores])
        return
    print(f"{component} component of {model}, cut {cut}: held-out accuracy of a {method} probe")
    print(f"in brackets: control with shuffled labels; {scores[0].n_test} test examples")
    print_scores(scores)


def print_scores(scores: list[ProbeScore]) -> None:
    """A row for each layer, a column for each factor, chance in the last row."""
    factors = list(dict.fromkeys(score.factor for score in scores))
    cells = {(score.layer, score.factor): score for score in scores}
    layers = list(dict.fromkeys(score.layer for score in scores))

    def shown(layer: int, factor: str) -> str:
        score = cells[layer, factor]
        return f"{number(score.accuracy)} ({number(score.control_accuracy)})"

    def mean(layer: int) -> str:
        return number(sum(cells[layer, factor].accuracy for factor in factors) / len(factors))

    chances = [cells[layers[0], factor].chance for factor in factors]
    rows = [(f"layer {layer}", *(shown(layer, factor) for factor in factors), mean(layer)) for layer in layers]
    rows.append(("chance", *map(number, chances), number(sum(chances) / len(chances))))
    print_table(("", *factors, "mean"), rows)
