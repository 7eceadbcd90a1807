"""A language model along its own training: in-context accuracy, weights score and context score of every checkpoint.

Figure 1B of Fu et al. 2024 for models that were trained elsewhere, in a file that is continued where it was left.
"""

import gc
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from unplateau.errors import SpecError
from unplateau.files import RowFile, read_rows
from unplateau.integrations.huggingface.loading import LanguageModel, decoder_for, load_language_model
from unplateau.integrations.huggingface.token_task import TEMPLATE
from unplateau.integrations.scores import icl_accuracy
from unplateau.layout import Cut
from unplateau.outputs import demand_replaceable, rows_with
from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.probe import probe_components, probe_three_things
from unplateau.scores import Component, Scores
from unplateau.tasks.base import Task


@dataclass(frozen=True)
class Measurement:
    """What is measured of every revision, always on the same prompts.

    ``layer``: the layer whose scores are taken, None for all. ``n_train``/``n_test``: examples of a probe;
    ``n_prompts``: prompts of the in-context accuracy.
    """

    task: Task
    template: str = TEMPLATE
    labels: tuple[str, ...] | None = None
    cut: Cut = "self"
    layer: int | None = None
    n_train: int = 4096
    n_test: int = 4096
    n_prompts: int = 256
    seed: int = 0

    def digest(self, *what: str) -> str:
        """Ten hex digits that identify these settings, applied to ``what``."""
        settings = {**asdict(self), "task": self.task.model_dump(mode="json"), "what": what}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Revision:
    """One checkpoint: its name, the training step in the name, and where it is loaded from."""

    name: str
    step: int
    where: str | Path
    hub_revision: str | None = None

    def fingerprint(self) -> str:
        """What tells apart two models that were saved under the same name."""
        kinds = ("*.safetensors", "*.bin") if self.hub_revision is None else ()
        files = [path for kind in kinds for path in Path(self.where).glob(kind)]
        return json.dumps(sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


def find_revisions(model: str, names: Sequence[str]) -> list[Revision]:
    """The revisions of a model, in the order of their steps.

    In a local folder these are its sub-folders, and ``all`` means every one whose name ends in a number; elsewhere
    they are revisions on the hub. Raises SpecError for a folder that is missing, or a name without a step.
    """
    folder = Path(model)
    if folder.is_dir():
        if "all" in names:
            names = [child.name for child in folder.iterdir() if child.is_dir() and re.search(r"\d+$", child.name)]
        found = [Revision(name, step_of(name), _sub_folder(folder, name)) for name in names]
    elif "all" in names:
        raise SpecError(f"{model}: no such folder; --revisions all lists the sub-folders of a local one")
    else:
        found = [Revision(name, step_of(name), model, name) for name in names]
    if not found:
        raise SpecError(f"{model}: no revisions given, and no sub-folders such as step1000 or checkpoint-1000")
    ordered = sorted(found, key=lambda one: (one.step, one.name))
    twice = [one for one, after in pairwise(ordered) if one.step == after.step]
    if twice:
        raise SpecError(f"{model}: two revisions of step {twice[0].step}")
    return ordered


def _sub_folder(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise SpecError(f"{folder / name}: no such folder")
    return folder / name


MOST_DIGITS = 24
"""Of a step in a name, with its commas."""


def step_of(name: str) -> int:
    """The number at the end of a name: 1000 of ``step1000``, ``checkpoint-1000``, ``step_1,000``."""
    match = re.search(r"(\d[\d,_]*)$", name)
    if match is None or len(match[1]) > MOST_DIGITS:
        raise SpecError(f"revision '{name}': no step at the end of its name, such as step1000 or checkpoint-1000")
    return int(re.sub(r"\D", "", match[1]))


def measure_revisions(
    model: str,
    revisions: Sequence[Revision],
    measurement: Measurement,
    *,
    out: Path,
    device: str = "cpu",
    force: bool = False,
) -> Iterator[dict[str, Any]]:
    """The row of each revision, in order; it is appended to ``out`` as soon as it is known.

    A revision that is in the file under the same settings is not measured again, nor one whose weights were measured
    before: suites of checkpoints are known to serve the same ones under several steps, see :func:`mark_repeats`.

    Raises OutputError, before anything is measured, if the file has other rows than ours, unless ``force`` allows to
    begin it anew.
    """
    begin_rows(out, force=force)
    rows = {str(row.get("digest")): row for row in read_rows(out) if "weights" in row}
    measured: dict[str, dict[str, Any]] = {}
    own = model if Path(model).is_dir() else None
    for revision in revisions:
        digest = measurement.digest(model, revision.name, revision.fingerprint())
        if digest not in rows:
            at = revision.hub_revision
            loaded = load_language_model(revision.where, revision=at, device=device, tokenizer_in=own)
            weights = weights_digest(loaded.model)
            row = measured[weights] if weights in measured else measure(loaded, measurement)
            del loaded
            gc.collect()  # the next model may need the memory
            which = {"step": revision.step, "revision": revision.name, "digest": digest, "weights": weights}
            rows[digest] = {**row, **which}
            RowFile(out).append(rows[digest])  # a row cut off by a crash goes
        measured.setdefault(rows[digest]["weights"], rows[digest])
        yield rows[digest]


def begin_rows(out: Path, *, force: bool = False) -> None:
    """Sees to it that rows can be appended: see :func:`measure_revisions`."""
    ours = rows_with("step", "revision", "digest")
    demand_replaceable(out, ours, force=force)
    if out.exists() and not ours(out.read_bytes()):
        RowFile(out, keep_bytes=0)


def weights_digest(model: nn.Module) -> str:
    """Sixteen hex digits that identify all tensors of a model, with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def mark_repeats(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in order; where a later step has the same weights, ``repeats`` names its revision.

    Training changes weights, so one of the two names is wrong. It is taken to be the earlier one, as where the final
    weights are served under the names of steps before.
    """
    last = {row["weights"]: row["revision"] for row in rows}
    repeated = [last[row["weights"]] != row["revision"] for row in rows]
    return [
        {**row, "repeats": last[row["weights"]]} if again else row for row, again in zip(rows, repeated, strict=True)
    ]


def without_repeats(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that belong into curves."""
    return [row for row in rows if "repeats" not in row]


def measure(loaded: LanguageModel, measurement: Measurement) -> dict[str, Any]:
    """In-context accuracy and scores of one model, as JSON; the context score where prompts hide this or that."""
    asked, shape = measurement, measurement.task.shape
    decoder, tokens = decoder_for(loaded, asked.task, template=asked.template, labels=asked.labels)
    found = icl_accuracy(decoder, tokens, asked.n_prompts, asked.seed)
    layers = None if asked.layer is None else [asked.layer]
    how: dict[str, Any] = {"n_train": asked.n_train, "n_test": asked.n_test, "seed": asked.seed}
    probed: tuple[Literal["weights", "context"], ...] = (
        ("weights", "context") if len(shape.choices) > 1 else ("weights",)
    )
    cells = [
        cell
        for component in probed
        for cell in probe_components(decoder, tokens, component=component, layers=layers, cut=asked.cut, **how)
    ]
    three = probe_three_things(decoder, tokens, cut=asked.cut, seed=asked.seed)
    cells += [cell for cell in three if layers is None or cell.layer in layers]
    scores = Scores.of(cells, [shape.factor_names[factor] for factor in shape.asked]).columns()
    context = {name: scores.pop(name) for name in [*scores] if name.startswith("context")}
    return {
        "icl": asdict(found),
        "cut": scores.pop("cut"),
        "layers": sorted({cell.layer for cell in cells}),
        **scores,
        **context,
        "split_items": len(tokens.split_items),
        "items_seen": tokens.n_items_seen,
    }


@dataclass(frozen=True)
class MarkedPlateau:
    """A plateau of the in-context accuracy, with the weights score at its start and its end."""

    plateau: Plateau
    layer: int
    weights_score: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**self.plateau.as_dict(), "layer": self.layer, "weights_score": list(self.weights_score)}


def accuracy_plateaus(rows: Sequence[dict[str, Any]]) -> list[MarkedPlateau]:
    """Plateaus of the in-context accuracy over steps, between the task's two floors; none for fewer than 8 revisions.

    Rows that :func:`mark_repeats` has marked are left out. The weights score is that of :func:`best_layer`, at the
    revisions nearest to the ends.
    """
    rows = without_repeats(rows)
    steps = [row["step"] for row in rows]
    icl = rows[-1]["icl"]
    found = find_plateaus(
        steps,
        [row["icl"]["accuracy"] for row in rows],
        floor=icl["no_context_accuracy"],
        ceiling=icl["bayes_accuracy"],
        direction="max",
    )
    best = best_layer(rows, "weights")

    def score_at(step: float) -> float:
        nearest = min(rows, key=lambda row: math.fabs(row["step"] - step))
        return float(nearest["weights_score"][best])

    layer = int(rows[-1]["layers"][best])
    return [MarkedPlateau(one, layer, (score_at(one.start), score_at(one.end))) for one in found]


def best_layer(rows: Sequence[dict[str, Any]], component: Component) -> int:
    """Index into ``layers`` of the highest score in the last row; the embedding only where there is nothing else."""
    scores, layers = rows[-1][f"{component}_score"], rows[-1]["layers"]
    return max(range(len(scores)), key=lambda index: (layers[index] > 0, scores[index]))
