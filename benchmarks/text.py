"""Bind and look on plain text: a small language model with and without them, at equal FLOPs.

    python benchmarks/text.py [--seeds 100 101 102 103 104] [--steps 2000] [--workers 2] [--terms bind-loss look-loss]

The text is the Python standard library of this interpreter, in words of which the 1,023 commonest have a token each; a
tenth of its files is held out. Three blocks of GPT-2, 96 wide, 128 tokens, batch 16, AdamW 1e-3. Every 100 steps: loss
on held-out text, and on the second half of random tokens that are repeated, which only the context tells. Plain
training gets as many more steps as its cheaper steps allow. A run that is in benchmarks/results/text.csv is not run
again.
"""

import argparse
import csv
import re
import sysconfig
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

import unplateau as up
from unplateau.integrations.tokens import TokenStrategy
from unplateau.rng import fold
from unplateau.train.step import count_flops

RAW = Path(__file__).parent / "results" / "text.csv"
FIELDS = ("way", "seed", "step", "flops", "held_out", "repeated")
VOCABULARY, LENGTH, BATCH, EVERY = 1024, 128, 16, 100
WEIGHTS = {"bind-loss": 0.3, "look-loss": 0.1}
"""Of the terms; smaller than on prompts, since most of what text holds is not told by what was said before."""


@dataclass(frozen=True)
class Job:
    """One run. ``terms``: names of loss terms, none for plain training; ``share``: of the batch that they read."""

    terms: tuple[str, ...]
    seed: int
    steps: int
    share: float = 1 / 4

    @property
    def way(self) -> str:
        """Its name."""
        return "+".join(self.terms) or "plain"

    @property
    def strategy(self) -> up.Strategy:
        """What is added to the loss."""
        parts = up.Strategy("+".join(self.terms)).parts if self.terms else ()
        changes = [{"share": self.share, "weight": WEIGHTS.get(part.name, 1.0)} for part in parts]
        return up.Strategy(*(part.model_copy(update=change) for part, change in zip(parts, changes, strict=True)))


@cache
def text() -> tuple[Tensor, Tensor]:
    """Tokens for training and held-out ones, each (N, LENGTH); 0 stands for all rare words."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    words = [re.findall(r"\w+|\n *|[^\w\s]", path.read_text("utf-8", errors="replace")) for path in files]
    train = [some for number, some in enumerate(words) if number % 10]
    number_of = {word: number for number, (word, _) in enumerate(Counter(chain(*train)).most_common(VOCABULARY - 1), 1)}

    def tokens(parts: list[list[str]]) -> Tensor:
        found = torch.tensor([number_of.get(word, 0) for word in chain(*parts)])
        return found[: len(found) // LENGTH * LENGTH].view(-1, LENGTH)

    return tokens(train), tokens(words[::10])


def run(job: Job) -> list[dict[str, str]]:
    """A row for every look."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    train, held_out = text()
    config = GPT2Config(
        vocab_size=VOCABULARY,
        bos_token_id=None,
        eos_token_id=None,
        n_positions=LENGTH,
        n_embd=96,
        n_layer=3,
        n_head=4,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
    )
    model = GPT2LMHeadModel(config)
    helper = TokenStrategy(model, job.strategy, seed=job.seed)
    optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], lr=1e-3)

    def update(step: int) -> None:
        batch = train[torch.randint(len(train), (BATCH,), generator=fold(job.seed, "text", step))]
        optimiser.zero_grad()
        (model(input_ids=batch, labels=batch).loss + helper(batch)).backward()
        optimiser.step()

    rows, flops = [], count_flops(lambda: update(0))
    for step in range(1, job.steps + 1):
        if step % EVERY == 0:
            losses = look(model, held_out)
            rows.append({"way": job.way, "seed": job.seed, "step": step, "flops": flops * step, **losses})
        update(step)
    return [{name: str(value) for name, value in row.items()} for row in rows]


@torch.no_grad()
def look(model: GPT2LMHeadModel, held_out: Tensor) -> dict[str, str]:
    """Mean losses in nats a token on 128 held-out sequences, and on the repetition of random tokens."""
    some = held_out[torch.randperm(len(held_out), generator=fold(0, "held out"))[:128]]
    half = torch.randint(1, VOCABULARY, (128, LENGTH // 2), generator=fold(0, "repeated"))
    losses = {}
    for name, batch, start in (("held_out", some, 0), ("repeated", torch.cat((half, half), 1), LENGTH // 2)):
        logits = model(input_ids=batch).logits[:, start:-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, start + 1 :].flatten())
        losses[name] = f"{float(loss):.4f}"
    return losses


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--terms", nargs="+", default=["bind-loss", "look-loss"])
    given = parser.parse_args()
    known = list(csv.DictReader(RAW.open(newline=""))) if RAW.exists() else []
    done = {(row["way"], int(row["seed"])) for row in known}
    jobs = [
        Job(terms, seed, round(given.steps * (1 if terms else 1.1)))
        for seed in given.seeds
        for terms in ((), tuple(given.terms))
    ]
    with ProcessPoolExecutor(given.workers) as pool:
        for rows in pool.map(run, [job for job in jobs if (job.way, job.seed) not in done]):
            known += rows
            with RAW.open("w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(known)
    for measure in ("held_out", "repeated"):
        compare(known, measure)


def compare(rows: list[dict[str, str]], measure: str) -> None:
    """Prints the loss of each way at equal FLOPs: where the dearest step has been taken so many times."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    each = {way: max(float(row["flops"]) / int(row["step"]) for row in rows if row["way"] == way) for way in ways}
    print(f"\n{measure} loss, nats a token, mean and deviation over seeds, at equal FLOPs")
    for step in (500, 1000, 1500, 2000):
        cells = []
        for way in ways:
            at = step * max(each.values()) / each[way] // EVERY * EVERY
            found = [float(row[measure]) for row in rows if row["way"] == way and int(row["step"]) == at]
            if len(found) > 1:
                cells.append(f"{way} (step {at:.0f}) {mean(found):.3f} +- {stdev(found):.3f}")
        print(f"  {step}: {'; '.join(cells)}")


if __name__ == "__main__":
    main()
