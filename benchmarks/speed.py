"""A training step here beside one as the field writes it, and beside what the machine can do.

    python benchmarks/speed.py [--size demo] [--size paper] [--device cpu] [--way float32] [--json FILE]
    python benchmarks/speed.py --keep             # both sizes in all ways, into benchmarks/results/speed.json
    python benchmarks/speed.py --table            # measures nothing: the tables of docs/concepts/speed.md anew

The other step: transformers' GPT2Model, labels as one-hot vectors through the linear layer that reads items, prompts
made one by one in a DataLoader with two workers, Adam, the loss asked for at every step. Both steps alternate in one
process and train on the same task at the same sizes; figures are medians. The ceiling is a large matrix product in the
same precision; the share of it is that of the matrix products that our step needs. Peak memory is that of a process
which does nothing else (on a GPU: of its allocations). Parts of our step are timed in steps of their own, which a
recorded step has not.

What is measured of our step is a way of making it: a precision, and ``train.execution`` with ``train.steps_per_draw``
where it is not made kernel by kernel from a batch of its own: ``--way bfloat16 --way bfloat16,compiled,8``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pages import made_anew, markdown
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from unplateau.analysis.runs import summaries
from unplateau.files import read_json, write_json
from unplateau.items.codes import RandomCodes
from unplateau.models.transformer import ModelConfig
from unplateau.recipes import demo
from unplateau.tasks.factors import FactorTask
from unplateau.train.describe import surroundings
from unplateau.train.given import Given
from unplateau.train.observers import Event, default_observers
from unplateau.train.spec import RunSpec, TrainConfig
from unplateau.train.step import step_flops
from unplateau.train.steps import Steps
from unplateau.train.training import Training

HERE = Path(__file__).parent
KEPT, ESCAPES = HERE / "results" / "speed.json", HERE / "results" / "precision.jsonl"
GPU = HERE / "results" / "gpu.json"
"""What benchmarks/gpu.py has written."""
PAGE = HERE.parent / "docs" / "concepts" / "speed.md"
WAYS = ("float32", "bfloat16", "float32,eager,20")
"""Those of a CPU that the documentation has: precision, execution, steps per draw."""
Step = Callable[[], None]
Row = Mapping[str, Any]
PARTS = ("data", "forward", "backward", "optimiser")
FILLED = 0.5
"""Seconds after which the workers of the other step's DataLoader have their batches ready, and rest."""


def paper() -> RunSpec:
    """The sizes of the paper's appendix: 12 blocks of width 128, 40 items of width 768, batches of 128."""
    task = FactorTask(source=RandomCodes(sizes=(10, 10, 10, 4), width=768), n_pairs=40)
    model = ModelConfig(n_layers=12, width=128, n_heads=4, init="gpt2")
    return RunSpec(recipe="paper", task=task, model=model, train=TrainConfig(batch_size=128, lr=1e-4))


SIZES: dict[str, Callable[[], RunSpec]] = {"demo": demo, "paper": paper}


class Prompts(IterableDataset[tuple[Tensor, Tensor]]):
    """Prompts of a factor task, one at a time."""

    def __init__(self, task: FactorTask) -> None:
        pool = task.source.split("train")
        self.items, self.factors = task.source.inputs(pool), task.source.factors()[pool]
        self.asked, self.sizes, self.n_pairs = task.shape.asked, task.shape.factor_sizes, task.n_pairs

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            index = torch.randperm(len(self.items))[: self.n_pairs]
            factor = self.asked[int(torch.randint(len(self.asked), ()))]
            mapping = torch.randperm(self.sizes[factor])
            yield self.items[index], mapping[self.factors[index, factor]]


class Usual(nn.Module):
    """GPT-2 between a linear layer that reads vectors and one that predicts labels."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model  # noqa: PLC0415 (an extra)

        shape, model = spec.task.shape, spec.model
        assert isinstance(model, ModelConfig)
        self.item_width, n_labels = shape.items.width, shape.n_labels  # type: ignore[union-attr]
        sizes = GPT2Config(
            vocab_size=1,
            n_positions=shape.layout.n_positions,
            n_embd=model.width,
            n_layer=model.n_layers,
            n_head=model.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.read, self.body = nn.Linear(self.item_width, model.width), GPT2Model(sizes)
        self.predict = nn.Linear(model.width, n_labels)

    def forward(self, items: Tensor, labels: Tensor) -> Tensor:
        """(B, K, W) and (B, K) -> (B, K, C)."""
        one_hot = functional.one_hot(labels, self.item_width).to(items.dtype)
        sequence = torch.stack((items, one_hot), 2).flatten(1, 2)
        return self.predict(self.body(inputs_embeds=self.read(sequence)).last_hidden_state[:, ::2])


def usual_step(spec: RunSpec, device: torch.device) -> Step:
    """As the field writes it."""
    assert isinstance(spec.task, FactorTask)
    torch.manual_seed(0)
    model = Usual(spec).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=spec.train.lr)
    batches = iter(DataLoader(Prompts(spec.task), batch_size=spec.train.batch_size, num_workers=2))
    losses = []

    def step() -> None:
        items, labels = (part.to(device) for part in next(batches))
        loss = functional.cross_entropy(model(items, labels).flatten(0, 1), labels.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    return step


class OurStep:
    """What the loop does between two rows."""

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        self.folder = TemporaryDirectory()  # removed with this object
        self.run = Training(spec, Path(self.folder.name), device, (), (), lambda *_: None)
        self.steps = Steps([self.run])

    def __call__(self) -> None:
        """One step."""
        self.steps.update()

    def flops(self) -> int:
        """Of one step."""
        return sum(step_flops(self.run.spec, self.run.model, self.run.heads, self.run.device).values())

    def parts(self, now: Callable[[], float]) -> list[float]:
        """One step kernel by kernel; when it and each of its parts began and ended."""
        run, times = self.run, [now()]
        task, batch = run.draw()
        times.append(now())
        losses = run.losses(task, batch, run.step, None, Given(run.step, run.device))
        times.append(now())
        run.updates.zero_grad()
        losses.total.backward()
        times.append(now())
        run.take_step(losses)
        return [*times, now()]


@dataclass(frozen=True)
class Speed:
    """One size: steps a second of both, GFLOP of our step and GFLOP/s, megabytes, shares of our step."""

    size: str
    device: str
    precision: str
    usual: float
    ours: float
    ratio: float
    gflop: float
    ceiling: float
    share_of_ceiling: float
    usual_memory: float
    our_memory: float
    shares: dict[str, float]
    execution: str = "eager"
    steps_per_draw: int = 1


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds, after all that the device was asked for."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def seconds(run: Callable[[], object], now: Callable[[], float], times: int, after: float = 0.0) -> float:
    """Of one call, as the mean of several in a row, which begin ``after`` so many seconds."""
    time.sleep(after)
    start = now()
    for _ in range(times):
        run()
    return (now() - start) / times


def ceiling(device: torch.device, precision: str, now: Callable[[], float]) -> float:
    """FLOP/s of a large product."""
    side = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: one @ other, now, 3) for _ in range(5))


def observers_share(spec: RunSpec, model: Any, device: torch.device, step: float, now: Callable[[], float]) -> float:
    """Time of all looks for each time of a step."""
    event, spent = Event(1, spec, model, device), 0.0
    with torch.no_grad():
        for one in default_observers(spec):
            one(event)  # what is made once
            spent += seconds(lambda one=one: one(event), now, 3) / one.every  # type: ignore[misc]
    return spent / step


def made(size: str, way: str) -> RunSpec:
    """This size, its steps made in this way."""
    keys = ("train.precision", "train.execution", "train.steps_per_draw")
    return SIZES[size]().with_settings(dict(zip(keys, way.split(","), strict=False)))


def measured(size: str, device: torch.device, way: str, repeats: int) -> Speed:
    """Both steps, one after the other, again and again."""
    spec, now = made(size, way), clock(device)
    ours, usual = OurStep(spec, device), usual_step(spec, device)
    seconds(ours, now, ours.steps.n_setting_up)
    each = max(1, min(20, round(1 / seconds(ours, now, 2))))
    seconds(usual, now, 2)
    pairs = [(seconds(usual, now, each), seconds(ours, now, each, after=FILLED)) for _ in range(repeats)]
    theirs, mine = (median(side) for side in zip(*pairs, strict=True))
    flops = ours.flops()
    limit, shares = ceiling(device, spec.train.precision, now), {}
    if spec.train.execution == "eager":
        times = [ours.parts(now) for _ in range(3 * repeats)]
        parts = {part: mean(one[at + 1] - one[at] for one in times) for at, part in enumerate(PARTS)}
        shares = {part: value / sum(parts.values()) for part, value in parts.items()}
    shares["observers"] = observers_share(spec, ours.run.model, device, mine, now)
    return Speed(
        size=size,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        precision=spec.train.precision,
        execution=spec.train.execution,
        steps_per_draw=spec.train.steps_per_draw,
        usual=1 / theirs,
        ours=1 / mine,
        ratio=median(one / other for one, other in pairs),
        gflop=flops / 1e9,
        ceiling=limit / 1e9,
        share_of_ceiling=flops / mine / limit,
        usual_memory=peak("usual", size, device, way),
        our_memory=peak("ours", size, device, way),
        shares=shares,
    )


def peak(side: str, size: str, device: torch.device, way: str) -> float:
    """Megabytes at most that a few of these steps take: of a GPU, or of a process that does nothing else."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _few_steps(side, made(size, way), device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, side, size, device, way, torch.get_num_threads()).result()


def _few_steps(side: str, spec: RunSpec, device: torch.device) -> None:
    ours = side == "ours"
    step: Callable[[], object] = OurStep(spec, device) if ours else usual_step(spec, device)
    for _ in range(2 + (step.steps.n_setting_up if isinstance(step, OurStep) else 1)):
        step()


def _peak(side: str, size: str, device: torch.device, way: str, threads: int) -> float:
    torch.set_num_threads(threads)
    _few_steps(side, made(size, way), device)
    if sys.platform == "linux":  # where ru_maxrss begins with what the parent had
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
        return int(status["VmHWM"].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def told(one: Speed) -> str:
    """Two lines."""
    shares = ", ".join(f"{part} {share:.1%}" for part, share in one.shares.items())
    way = f"{one.device}, {one.precision}, {one.execution}, {one.steps_per_draw} steps a draw"
    return (
        f"{one.size} ({way}): {one.ours:.2f} steps/s, {one.usual:.2f} as usual, ratio {one.ratio:.2f}; "
        f"{one.gflop:.2f} GFLOP a step, {one.share_of_ceiling:.0%} of {one.ceiling:.0f} GFLOP/s; "
        f"peak {one.our_memory:.0f} MB, {one.usual_memory:.0f} MB as usual\n  {shares}"
    )


def table_of_steps(speeds: Sequence[Speed]) -> str:
    """A line for each."""
    parts = [*PARTS, "observers"]
    head = [
        "size",
        "precision",
        "execution",
        "steps a draw",
        "steps/s",
        "as usual",
        "ratio",
        "of the ceiling",
        *parts,
        "peak, GB",
        "as usual",
    ]
    lines = [
        [
            one.size,
            one.precision,
            one.execution,
            f"{one.steps_per_draw}",
            short(one.ours),
            short(one.usual),
            f"{one.ratio:.2f}",
            f"{100 * one.share_of_ceiling:.2g} % of {short(one.ceiling)} GFLOP/s",
            *(f"{100 * one.shares[part]:.1f} %" if part in one.shares else "" for part in parts),
            short(one.our_memory / 1e3),
            short(one.usual_memory / 1e3),
        ]
        for one in speeds
    ]
    return markdown([head, *lines])


def short(number: float) -> str:
    """Two or three figures of a small number, all of a large one."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}" if number >= 1 else f"{number:.2g}"


def table_of_stacks(stacks: Mapping[str, Mapping[str, Any]]) -> str:
    """Seconds of seeds alone and together, as they are and recorded."""
    lines = [
        [name, f"{one['seeds']}", f"{one['steps']}", *(f"{one['seconds'][part]:.2f}" for part in ("alone", "together"))]
        for name, one in stacks.items()
    ]
    return markdown([["steps are made", "seeds", "steps of each", "one alone, s", "all together, s"], *lines])


def table_of_escapes(rows: Sequence[Row]) -> str:
    """The step at which each seed escaped, by task and precision."""
    seeds = sorted({row["seed"] for row in rows})
    by_run: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in rows:
        escaped = f"> {row['steps']:,}" if row["escape_step"] is None else str(row["escape_step"])
        by_run.setdefault((row["recipe"], row["strategy"], row["precision"]), {})[row["seed"]] = escaped
    lines = [[*run, *(escapes[seed] for seed in seeds)] for run, escapes in sorted(by_run.items())]
    return markdown([["task", "strategy", "precision", *(f"seed {seed}" for seed in seeds)], *lines])


def page(text: str) -> str:
    """The page with its tables made anew."""
    on_gpu = read_json(GPU)
    speeds, theirs = ([Speed(**one) for one in found["speeds"]] for found in (read_json(KEPT), on_gpu))
    escapes = [json.loads(line) for line in ESCAPES.read_text("utf-8").splitlines()]
    made: dict[tuple[str, str], Callable[[], str]] = {
        (KEPT.name, ""): lambda: table_of_steps(speeds),
        (GPU.name, "steps"): lambda: table_of_steps(theirs),
        (GPU.name, "stack"): lambda: table_of_stacks(on_gpu["stack"]),
        (ESCAPES.name, ""): lambda: table_of_escapes(escapes),
    }
    return made_anew(text, lambda file, part: made[file, part]())


def keep_escapes(folder: Path) -> None:
    """Writes one line for each finished run below a folder, with its precision."""
    names = ("recipe", "strategy", "seed", "steps", "escape_step", "final_progress", "spec", "commit", "machine")
    lines = []
    for run in summaries(folder):
        precision = run.record.spec["train"].get("precision", "float32")
        lines.append({name: run.as_dict()[name] for name in names} | {"precision": precision})
    lines.sort(key=lambda line: (line["recipe"], line["strategy"], line["precision"], line["seed"]))
    ESCAPES.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what it measures, and writes it with the machine and the versions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", action="append", metavar="PRECISION[,EXECUTION[,STEPS PER DRAW]]")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="all of it, for the documentation")
    parser.add_argument("--keep-escapes", type=Path, metavar="FOLDER", help="finished runs to keep; measures nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, only write the tables anew")
    given = parser.parse_args(argv)
    if given.keep_escapes:
        keep_escapes(given.keep_escapes)
    elif not given.table:
        measure(given, KEPT if given.keep else given.json)
    if given.keep_escapes or given.keep or given.table:
        PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")


def measure(given: argparse.Namespace, kept: Path | None) -> None:
    """All sizes and ways that are asked for."""
    torch.set_num_threads(given.threads)
    found = []
    for size in given.size or SIZES:
        for way in given.way or WAYS[: None if given.keep else 1]:
            found.append(measured(size, torch.device(given.device), way, given.repeats))
            print(told(found[-1]), flush=True)
    if kept:
        write_json(kept, {**surroundings(torch.device(given.device)), "speeds": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
