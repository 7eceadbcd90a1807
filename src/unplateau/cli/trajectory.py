"""``unplateau trajectory``: a language model along its own training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from unplateau.cli.console import number, print_json, print_table
from unplateau.cli.wording import ASKED_PLAINLY, TaskFile, Worded
from unplateau.errors import SpecError

if TYPE_CHECKING:
    from unplateau.integrations.trajectory import MarkedPlateau

Model = Annotated[str, Positional, arg(metavar="MODEL")]
Revisions = Annotated[str, arg(metavar="STEP0,STEP512,...|all")]
Layer = Annotated[str, arg(metavar="N|all")]


def trajectory(
    model: Model,
    /,
    *,
    revisions: Revisions,
    task: TaskFile,
    wording: Worded = ASKED_PLAINLY,
    cut: Literal["self", "item", "identity", "zero"] = "self",
    layer: Layer = "all",
    n_test: int = 4096,
    out: Annotated[Path, arg(metavar="FILE.jsonl")] = Path("trajectory.jsonl"),
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Measures a language model at several steps of its training: in-context accuracy, weights score, context score.

    Finds the plateaus of the accuracy and shows the weights score at their ends. Every revision is asked the same
    prompts. The rows are written as they come; the same command again goes on where it stopped.

    Args:
        model: a folder with a sub-folder for each revision, or a name on the hub
        revisions: names that end in the training step, with commas; all: every such sub-folder
        task: the task; its items must be words or sentences
        wording: how the model is asked
        cut: self (a position sees itself only), item (its item), identity (attention returns its input), zero (nothing)
        layer: the layer to probe; all of them by default
        n_test: held-out examples (positions) of a probe, and as many that it is fitted on
        out: file of rows, one per revision
        device: cpu, cuda, cuda:1 ...
        json: print JSON instead of a table
    """
    from unplateau.integrations import trajectory as along  # noqa: PLC0415 (transformers)
    from unplateau.train.loop import choose_device  # noqa: PLC0415
    from unplateau.train.spec import read_task  # noqa: PLC0415

    measurement = along.Measurement(
        task=read_task(task),
        template=wording.pair,
        labels=wording.label_words,
        cut=cut,
        layer=_layer(layer),
        n_train=n_test,
        n_test=n_test,
    )
    chosen = along.find_revisions(model, [name.strip() for name in revisions.split(",") if name.strip()])
    device = str(choose_device(device))
    rows = list(along.measure_revisions(model, chosen, measurement, out=out, device=device))
    found = along.accuracy_plateaus(rows)
    if json:
        print_json({"rows": rows, "plateaus": [plateau.as_dict() for plateau in found]})
        return
    _print(rows, found, along.best_layer(rows, "weights"), along.best_layer(rows, "context"))


def _layer(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise SpecError(f"--layer: expected a number or all, got '{text}'")
    return int(text)


def _print(rows: Sequence[dict[str, Any]], plateaus: Sequence[MarkedPlateau], weights: int, context: int) -> None:
    from unplateau.plateau.progress import FEWEST_POINTS  # noqa: PLC0415 (numpy)

    last = rows[-1]
    print(
        f"cut {last['cut']}; layer {last['layers'][weights]} for the weights score, {last['layers'][context]} for the"
    )
    print("context score: where they are highest in the last row; in brackets: control with shuffled labels")
    cells = [
        (
            str(row["step"]),
            number(row["icl"]["accuracy"]),
            _scored(row, "weights", weights),
            _scored(row, "context", context),
        )
        for row in rows
    ]
    print_table(("step", "in-context accuracy", "weights score", "context score"), cells)
    print(
        f"in-context accuracy without context {number(last['icl']['no_context_accuracy'])}, Bayes-optimal "
        f"{number(last['icl']['bayes_accuracy'])}; chance of the weights score {number(last['weights_chance'])}, "
        f"of the context score {number(last['context_chance'])}"
    )
    for one in plateaus:
        start, end = (number(score) for score in one.weights_score)
        print(f"{one.plateau}; weights score from {start} to {end} (layer {one.layer}, cut {last['cut']})")
    if not plateaus:
        print("no plateau found" if len(rows) >= FEWEST_POINTS else f"plateaus need at least {FEWEST_POINTS} revisions")


def _scored(row: dict[str, Any], component: str, layer: int) -> str:
    return f"{number(row[f'{component}_score'][layer])} ({number(row[f'{component}_control'][layer])})"
