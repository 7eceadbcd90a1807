"""What a run takes on this machine, from a trial of it: a few updates, looks and a checkpoint, timed and thrown away.

The trial is the training loop's own code in a folder that is removed, so that whatever a run does is timed as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from unplateau.sweep.server import preload
from unplateau.train.clock import Spent, Stopwatch
from unplateau.train.guest import undisturbed
from unplateau.train.spec import RunSpec
from unplateau.train.step import flops_spent
from unplateau.train.steps import Steps
from unplateau.train.training import Training

RATE = 1e-6
"""Learning rate of a trial: it takes steps from all over a run, at which no rate would suit, and must not diverge."""
BLOCK = 0.02
"""Seconds of updates that are timed at once."""
BLOCKS = 5
"""Timed of each stretch of a run, spread over it."""
ENOUGH = 1.0
"""Seconds after which no more are timed, however few there were."""
PERIOD = 10
"""Updates timed at once, at least, where some of an optimiser's steps do more than others (SOAP)."""
STRETCHES = 4
"""Parts of a run that are timed apart where a curriculum may change what is sampled."""


@dataclass(frozen=True)
class KindOfRun(ABC):
    """Runs that cost the same. ``flops``: of an update, by part."""

    spec: RunSpec
    flops: Mapping[str, int]

    @abstractmethod
    def left(self, step: int = 0) -> Spent:
        """What one takes that has made ``step`` updates and is begun, or gone on with, now."""

    def flops_left(self, step: int = 0) -> int:
        """Of the updates that follow ``step`` others."""
        return flops_spent(self.spec, self.flops, self.spec.train.steps) - flops_spent(self.spec, self.flops, step)


@dataclass(frozen=True)
class Trial(KindOfRun):
    """What the parts of a run take: its start, one update, one row, a row with probes, a checkpoint, the final look.

    ``updates``: for each stretch of the run its first step, the step after its last, and what one update takes there.
    ``method``: how the joules come about.
    """

    method: str
    start: Spent
    updates: tuple[tuple[int, int, Spent], ...]
    row: Spent
    probing: Spent
    checkpoint: Spent
    end: Spent

    def left(self, step: int = 0) -> Spent:
        """As of any kind, from its parts."""
        config = self.spec.train
        n_rows, n_probings, n_checkpoints = (
            times(every, step, config.steps)
            for every in (config.eval_every, config.probe_every, config.checkpoint_every)
        )
        spent = self.start + self.end + self.probing * n_probings + self.row * (n_rows - n_probings)
        spent += self.checkpoint * (n_checkpoints - (step == 0))  # there is none of step 0
        for first, last, each in self.updates:
            spent += each * max(0, last - max(first, step))
        return spent


def times(every: int, step: int, last: int) -> int:
    """How often something is due after ``step`` updates: every so many, after the last one, and before the first."""
    if not every or step == last:
        return 0
    return last // every - step // every + bool(last % every) + (step == 0)


def tried_as(spec: RunSpec) -> RunSpec:
    """The run without what costs nothing: seed, name, learning rate, weights to begin with. Equal: the same cost."""
    train = spec.train.model_copy(update={"lr": RATE, "schedule": "constant", "warm_up": None})
    return spec.model_copy(update={"recipe": "trial", "seed": 0, "grafts": (), "train": train})


def trial(spec: RunSpec, device: torch.device, *, threads: int = 1) -> Trial:
    """Times the parts of this run on ``device`` with so many CPU threads; the process is left as it was.

    It takes a second or two, or some updates and looks where these take longer. Raises what ``spec.check()`` does.
    """
    preload()
    spec = tried_as(spec)
    with undisturbed(), TemporaryDirectory() as folder:
        torch.set_num_threads(threads)
        watch = Stopwatch(device)
        spec.check()
        training = Training(spec, Path(folder), device, None, (), lambda *_: None)
        start = watch.lap()
        training.log()  # the first of each may make things that stay
        steps = Steps([training])
        steps.update()
        training.step = 0
        probing = _typical(watch, lambda _: training.log())
        updates = tuple((*ends, _of_updates(watch, steps, *ends)) for ends in _stretches(spec))
        training.step = spec.train.eval_every
        row = _typical(watch, lambda _: training.log())
        checkpoint = _typical(watch, lambda _: training.save(None))
        training.finish()
        end = watch.lap()
    return Trial(spec, training.flops, watch.method, start, updates, row, probing, checkpoint, end)


def _stretches(spec: RunSpec) -> Iterator[tuple[int, int]]:
    """First step, and the step after the last, of what may cost the same: until a term ends, a quarter is over."""
    steps, ends = spec.train.steps, {spec.train.steps}
    ends |= {min(steps, term.lasts) for term in spec.strategy.loss_terms if term.lasts}
    if spec.strategy.curricula:
        ends |= {max(1, steps * part // STRETCHES) for part in range(1, STRETCHES)}
    first = 0
    for end in sorted(ends):
        yield first, end
        first = end


def _of_updates(watch: Stopwatch, steps: Steps, first: int, last: int) -> Spent:
    """What one update takes, by blocks of several that are spread over these steps."""
    (training,) = steps.runs

    def make(n: int, at: int) -> None:
        training.step = at
        for _ in range(n):
            steps.update()

    make(steps.n_setting_up - 1, first)
    watch.lap()
    make(1, first)  # it may make things that stay
    least = PERIOD if training.spec.train.optimiser.multiplies else 1
    n = min(last - first, max(least, round(BLOCK / max(watch.lap().seconds, 1e-9))))
    apart = (last - first - n) / (BLOCKS - 1)
    return _typical(watch, lambda block: make(n, first + int(block * apart))) * (1 / n)


def _typical(watch: Stopwatch, run: Callable[[int], object]) -> Spent:
    """What one call takes, by up to ``BLOCKS`` of them, which are told their number.

    The median of the seconds, which others on the machine disturb; the mean of the joules, since counters are coarse.
    """
    found: list[Spent] = []
    watch.lap()
    while len(found) < BLOCKS and sum(one.seconds for one in found) < ENOUGH:
        run(len(found))
        found.append(watch.lap())
    whole = sum(found, Spent())
    return replace(whole * (1 / len(found)), seconds=median(one.seconds for one in found))
