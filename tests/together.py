"""What each of several processes does that torchrun has started: ``torchrun --nproc-per-node 2 together.py OUT``.

Adam has a large epsilon here: with the usual one a gradient that is nothing but rounding makes as large a step as any.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import unplateau as up
from tiny_run import TINY
from unplateau.cli.main import main
from unplateau.errors import InterruptedRunError, SpecError
from unplateau.history import History
from unplateau.strategies.base import Curriculum, Mix, V
from unplateau.torchrun import place

PLAIN = TINY.with_settings(
    {
        "recipe": "together",
        "train.steps": 8,
        "train.eval_every": 2,
        "train.probe_every": 8,
        "train.checkpoint_every": 4,
        "train.final_prompts": 8,
        "train.optimiser": up.Adam(eps=1e-2),
    }
)
EVERYTHING = PLAIN.with_strategy(
    up.Strategy(
        up.Mixed(),
        up.MatchLoss(share=0.3, until=2),
        up.BindLoss(share=1, control=True),
        up.KeepLoss(share=0.6),
        up.LookLoss(control=True),
        up.ComponentLoss(layer=1, rows=5),
        up.ComponentLoss(items=9, cut="zero"),
        up.WeightsLoss(),
        up.ContextLoss(),
    )
)
"""All that a term may do with rows: a share or a number of them that is odd, those of another, means over some."""
CLIPPED: dict[str, Any] = {"train.clip_norm": 0.1, "train.frozen": ["label_embedding"]}
AVERAGING: dict[str, Any] = {
    "train.optimiser": {"kind": "ScheduleFree", "eps": 1e-2},
    "train.gradient_filter": {"kind": "Grokfast"},
    "train.clip_norm": 0.1,
}
WHOLE = {
    "plain": PLAIN,
    "unplateau": PLAIN.with_strategy("unplateau"),
    "everything": EVERYTHING.with_settings(CLIPPED),
}
"""Runs in which each process has the whole model."""
IN_PARTS = {
    "everything": EVERYTHING.with_settings(CLIPPED),
    "averaging": PLAIN.with_strategy("component-loss").with_settings(AVERAGING),
}
"""Runs in which each has a part."""


class Ends(Curriculum):
    """A signal comes to the last of several processes at this step, to that one alone."""

    at: int = 5
    number: int = int(signal.SIGTERM)

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        """All rows from the target."""
        assert [row["step"] for row in history] == [*range(0, step + 1, 2)]  # rows are known to all
        if step == self.at and place().size > 1 and place().rank == place().size - 1:
            os.kill(os.getpid(), self.number)
        return [(1.0, target)]


def sharded(spec: up.RunSpec) -> up.RunSpec:
    return spec.with_settings({"train.sharded": True})


def stopping(number: int = signal.SIGTERM) -> up.RunSpec:
    """A run that is told to stop, or killed."""
    kind = {"kind": "together:Ends", "number": int(number)}
    return up.RunSpec.model_validate({**PLAIN.model_dump(), "strategy": {"parts": [kind]}})


def trained(spec: up.RunSpec, out: Path) -> up.RunRecord:
    return up.train(spec, out=out, device="cpu", progress=False)


def work(out: Path) -> None:
    """What ends well; every process gets the same back."""
    for spec in (*WHOLE.values(), *map(sharded, IN_PARTS.values())):
        record = trained(spec, out)
        assert record.done is not None
        assert list(record.history)[-1]["step"] == 8
    with pytest.raises(InterruptedRunError, match="stopped after step 6 of 8, saved"):
        trained(stopping(), out)
    assert trained(stopping(), out).env["machine"]["processes"] == 2
    longer = up.extend(trained(PLAIN, out).path, 12, device="cpu", progress=False)
    assert longer.done is not None
    assert longer.done["step"] == 12
    with pytest.raises(SpecError, match=r"batch_size 7 is not divisible by the 2 processes .*; 6 or 8 is"):
        trained(PLAIN.with_settings({"train.batch_size": 7}), out)


def end(out: Path) -> int:
    """One process is killed; the exit code of the other."""
    file = out / "killed.json"
    file.write_text(json.dumps(stopping(signal.SIGKILL).model_dump(mode="json")))
    return main(["train", str(file), "--out", str(out), "--device", "cpu"])


if __name__ == "__main__":
    work(Path(sys.argv[1]))
    sys.stdout.write("ended well\n")
    sys.stdout.flush()
    sys.exit(end(Path(sys.argv[1])))
