"""Is ``unplateau diagnose`` right where a model is made unable to do one thing, whatever it is asked for?

    python benchmarks/planted.py [--only recall codes]

On tasks of other sizes than the recipes', with a plain loop and no loss but that of the task, models are trained in
which one thing is impossible by construction (``PLANTS``), and beside each its twin of the same seed, in which it is
possible. Where the twin leaves the plateau and the planted model does not, what was planted is what it waits for.
Neither the lines of ``diagnose`` nor these plants were tried on these seeds. Rows are kept in
benchmarks/results/planted.jsonl, from which ``benchmarks/cards.py`` makes a table of the card of bottlenecks.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from json import dumps
from pathlib import Path

import torch
from bottlenecks import COLUMNS, Answer, counted
from pages import markdown
from pydantic import TypeAdapter
from torch import Tensor

import unplateau as up
from unplateau.files import write_whole
from unplateau.items.amplified import Amplified
from unplateau.layout import Attention
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.plateau.progress import ESCAPE
from unplateau.probe.diagnose import diagnose
from unplateau.tasks.base import Task
from unplateau.tasks.loss import prediction_loss
from unplateau.train.describe import surroundings

RAW = Path(__file__).parent / "results" / "planted.jsonl"
SEEDS, STEPS, BATCH, RATE = (100, 101, 102), 400, 64, 2e-3
CODES = up.RandomCodes(sizes=(3, 5), width=24, twist=0.7)
TASKS: Mapping[str, Task] = {
    "recall": up.AssociativeRecall(n_keys=40, keys_per_prompt=5, n_labels=4, n_pairs=12),
    "clusters": up.Clusters(n_classes=64, width=16, noise=0.1, classes_per_prompt=3, n_pairs=9),
    "codes": up.FactorTask(source=CODES, hidden=("b",), n_pairs=12),
    "regression": up.LinearRegression(dimension=2, n_pairs=10),
    "parity": up.SparseParity(n_signs=8, degree=1, n_pairs=14),
    "fixed": up.FactorTask(source=CODES, hidden=("a", "b"), n_mappings=1, n_pairs=12),
}
FAINT = TASKS["codes"].model_copy(update={"source": Amplified(source=CODES, factors_amplified=("b",), gain=0.05)})


class Alone(Transformer):
    """Every position sees itself and nothing else: nothing can be told from a prompt."""

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        """As if nothing stood before."""
        return super().hidden_states(embedded, "self" if attention == "causal" else attention, n_layers)


class Barred(Transformer):
    """Labels see nothing but themselves, and items no other item: nothing can be bound anywhere."""

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        """As ever, unless positions see each other."""
        if attention != "causal":
            return super().hidden_states(embedded, attention, n_layers)
        states = [embedded]
        for number, block in enumerate(self.blocks[:n_layers], 1):
            x = states[-1]
            read = block.attention.read(block.attention_norm(x), self.attention_weights(x, number))
            states.append(block.after_attention(x + read))
        return states

    def attention_weights(self, hidden: Tensor, layer: int) -> Tensor:
        """(B, H, T, T): what is left of the attention, as shares."""
        n_positions, labels = hidden.shape[1], list(self.shape.layout.labels)
        bar = torch.eye(n_positions)
        bar[:, labels] = 1
        bar[labels] = torch.eye(n_positions)[labels]
        left = super().attention_weights(hidden, layer) * bar
        return left / left.sum(-1, keepdim=True).clamp_min(torch.finfo(left.dtype).tiny)


Plant = Callable[[Transformer], object]


def nothing(model: Transformer) -> None:
    """As it is."""


def looks_everywhere(model: Transformer) -> None:
    """Queries and keys stay 0, so that every position attends to all before it alike."""
    for block in model.blocks:
        layer, n_frozen = block.attention.query_key_value, 2 * model.width
        for parameter in layer.parameters():
            with torch.no_grad():
                parameter[:n_frozen] = 0
            parameter.register_hook(partial(_zero_at_first, n_frozen))


def _zero_at_first(number: int, gradient: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(gradient[:number]), gradient[number:]))


def shrunk(name: str, gain: float, model: Transformer) -> None:
    """The weights of a module stay that small."""
    for parameter in model.get_submodule(name).parameters():
        with torch.no_grad():
            parameter.mul_(gain)
        parameter.requires_grad_(False)


@dataclass(frozen=True)
class Case:
    """What is made impossible, and in which model; its twin has neither plant nor bars."""

    plant: Plant = nothing
    carried: bool = True
    kind: type[Transformer] = Transformer


PLANTS: Mapping[str, Case] = {
    "items": Case(partial(shrunk, "item_embedding", 0.0)),
    "labels": Case(carried=False, kind=Barred),
    "queries": Case(looks_everywhere),
    "kept labels": Case(partial(shrunk, "label_embedding", 0.002)),
    "inference": Case(kind=Alone),
}
"""What is lacking, and how it is made to. Of codes items are shown, and the hidden factor hardly."""


def can_lack(task: str, thing: str) -> bool:
    """Whether a thing has a score there: numbers have two less, and a fixed mapping leaves inference for queries."""
    if task == "regression":
        return thing in ("labels", "queries")
    return thing != ("queries" if task == "fixed" else "inference")


@dataclass(frozen=True)
class Planted:
    """A planted model after training, and what ``diagnose`` says that it waits for; ``twin``: progress without it."""

    setting: str
    cell: str
    seed: int
    progress: float
    twin: float
    waits_for: tuple[str, ...]
    commit: str | None
    machine: str


def plan() -> Iterator[tuple[str, str, int]]:
    """Task, what is lacking, and seed."""
    for task in TASKS:
        for lacks in PLANTS:
            if can_lack(task, lacks):
                yield from ((task, lacks, seed) for seed in SEEDS)


def made(task: str, lacks: str, seed: int) -> Planted:
    """Both models, trained on the same prompts."""
    case = PLANTS[lacks]
    faint = task == "codes" and lacks == "items"
    shown = FAINT if faint else TASKS[task]
    model = _trained(shown, seed, case.carried, nothing if faint else case.plant, case.kind)
    twin = _trained(TASKS[task], seed, case.carried, nothing)
    found, best = diagnose(model, shown), diagnose(twin, TASKS[task])
    where = surroundings(torch.device("cpu"))
    traced = (where["versions"]["commit"], where["machine"]["cpu"])
    return Planted(
        task, lacks, seed, found.standing.progress or 0.0, best.standing.progress or 0.0, found.waits_for, *traced
    )


def _trained(task: Task, seed: int, carried: bool, plant: Plant, kind: type[Transformer] = Transformer) -> Transformer:
    config = ModelConfig(n_layers=2, width=48, n_heads=2, labels_carry_items=carried)
    model = kind(config, task.shape, seed=seed)
    plant(model)
    optimiser = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], RATE)
    for step in range(STEPS):
        batch = task.sample(step, batch_size=BATCH, seed=seed)
        loss = prediction_loss(model(batch.inputs).logits, batch.targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


_rows: TypeAdapter[Planted] = TypeAdapter(Planted)


def kept() -> list[Planted]:
    """The rows so far."""
    return [_rows.validate_json(line) for line in RAW.read_bytes().splitlines()] if RAW.exists() else []


def answers(rows: Sequence[Planted]) -> str:
    """What was named of the models whose twin leaves the plateau that they stay on, by what they lack."""
    stuck = [row for row in rows if row.progress < ESCAPE <= row.twin]
    cells = {lacks: [row for row in stuck if row.cell == lacks] for lacks in PLANTS} | {"together": stuck}
    lines = [["made impossible", "models", *COLUMNS[2:]]]
    for name, of_cell in cells.items():
        lines.append(counted(name, [Answer(frozenset({row.cell}), row.waits_for) for row in of_cell]))
    return markdown(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="these tasks")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = kept()
    done = {(row.setting, row.cell, row.seed) for row in rows}
    for task, lacks, seed in plan():
        if task in given.only and (task, lacks, seed) not in done:
            rows.append(made(task, lacks, seed))
            write_whole(RAW, "".join(dumps(asdict(row)) + "\n" for row in rows).encode())
            print(rows[-1], flush=True)
    print(answers(rows))


if __name__ == "__main__":
    main()
