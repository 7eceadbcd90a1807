"""Curricula over datasets: which rows of which dataset make up the batch of a step.

The rows are a pure function of (strategy, seed, step), and the curricula are the same objects as for tasks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.rng import fold
from unplateau.strategies.base import Mix
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.mixture import rows_of

Source = Literal["target", "fixed"]


class Rows(Protocol):
    """A dataset with a length whose rows can be asked for by number."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> Any:
        """One row."""


@dataclass(frozen=True)
class Row:
    """Row ``index`` of the dataset ``source``."""

    source: Source
    index: int


@dataclass(frozen=True)
class Draw:
    """What curricula choose among in the place of tasks: rows of one dataset, or a mixture of draws."""

    source: Source = "target"
    mixture: tuple[tuple[float, Draw], ...] = ()

    @classmethod
    def of(cls, mix: Mix[Draw]) -> Draw:
        """The mixture with these shares."""
        return cls(mixture=tuple(mix))

    def fixed(self, variant: int = 0) -> Draw:
        """The dataset with the fixed mapping. Raises SpecError for any other variant of it."""
        if variant:
            raise SpecError("mapping 'changing': another fixed mapping at every step cannot be had from one dataset")
        return Draw("fixed")

    def shuffled(self) -> Draw:
        """Raises SpecError: what would have to be shuffled is unknown."""
        raise SpecError("mapping 'shuffled': only tasks can be shuffled; give a shuffled dataset as the fixed one")

    def rows(self, step: int, n_rows: int) -> Counter[Source]:
        """How many of so many rows come from each dataset."""
        if not self.mixture:
            return Counter({self.source: n_rows})
        counts: Counter[Source] = Counter()
        shares = [share for share, _ in self.mixture]
        for (_, draw), own in zip(self.mixture, rows_of(shares, step, n_rows), strict=True):
            counts += draw.rows(step, own)
        return counts


class CurriculumDataset(IterableDataset[Any]):
    """An endless stream of rows: ``batch_size`` of them for each step, as the strategy's curricula say.

    ``target``: what is to be learnt. ``fixed``: the same with the mapping fixed, for curricula. Rows are drawn without
    replacement: within an epoch of a dataset each of its rows comes once, in an order of its own. The rows of a step
    are shuffled, so that each of several micro-batches holds a mixture. ``batch_size``: rows of one update, over all
    micro-batches and processes. ``rows_at_once``: rows that the data loader collates, if not ``batch_size``; it makes
    the stream the same for any number of workers. ``start``: the step to begin at. ``history``: what has been logged,
    for curricula that read it; not with workers, which would not see it grow.

    Raises SpecError, naming the curriculum, where it needs ``fixed`` and there is none, and for a dataset with fewer
    rows than a batch.
    """

    def __init__(
        self,
        strategy: Strategy,
        target: Rows,
        fixed: Rows | None = None,
        *,
        batch_size: int,
        rows_at_once: int | None = None,
        seed: int = 0,
        start: int = 0,
        history: Callable[[], History] | None = None,
    ) -> None:
        self.strategy, self.batch_size, self.seed, self.start = strategy, batch_size, seed, start
        self.rows_at_once = rows_at_once or batch_size
        self.history = history
        self.datasets: dict[Source, Rows] = {"target": target} if fixed is None else {"target": target, "fixed": fixed}
        self._drawn: dict[Source, array[int]]  # rows of each before step 0, 1, 2 ...
        self._drawn = {source: array("q", [0]) for source in get_args(Source)}
        self._orders: dict[Source, tuple[int, Tensor]] = {}
        self._check()

    def rows_at(self, step: int) -> list[Row]:
        """The rows of this step, whatever was asked for before. Raises SpecError for a negative step."""
        if step < 0:
            raise SpecError(f"step: must be at least 0 (got {step})")
        drawn = self._drawn_until(step + 1)
        rows = [
            Row(source, self._row(source, number))
            for source in self.datasets
            for number in range(drawn[source][step], drawn[source][step + 1])
        ]
        return [rows[at] for at in torch.randperm(len(rows), generator=fold(self.seed, "row order", step)).tolist()]

    def shares_at(self, step: int) -> dict[Source, int]:
        """How many rows of each dataset this step takes."""
        drawn = self._drawn_until(step + 1)
        return {source: drawn[source][step + 1] - drawn[source][step] for source in self.datasets}

    def __iter__(self) -> Iterator[Any]:
        """Rows from step ``start`` on; with several workers, each takes the chunks that the loader asks it for."""
        worker = get_worker_info()
        n_workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        if worker is not None and self.history is not None:
            raise SpecError("history: workers of a data loader cannot see it grow; use num_workers=0")
        rows = (row for step in count(self.start) for row in self.rows_at(step))
        for number, row in enumerate(rows):
            if number // self.rows_at_once % n_workers == own:
                yield self.datasets[row.source][row.index]

    def _check(self) -> None:
        if self.batch_size < 1:
            raise SpecError(f"batch_size: must be at least 1 (got {self.batch_size})")
        curricula = self.strategy.curricula
        if curricula and "fixed" not in self.datasets:
            raise SpecError(f"{type(curricula[0]).__name__}: needs a dataset with the fixed mapping: give fixed=")
        for source, dataset in self.datasets.items():
            if len(dataset) < self.batch_size:
                raise SpecError(
                    f"{source}: {len(dataset)} rows are fewer than a batch of {self.batch_size}; more rows or smaller "
                    f"batches are needed"
                )
        self._drawn_until(1)  # what a curriculum cannot do with datasets is said at once

    def _drawn_until(self, step: int) -> dict[Source, array[int]]:
        """Rows of each dataset before the steps 0 .. ``step``."""
        for at in range(len(self._drawn["target"]) - 1, step):
            known = History() if self.history is None else self.history()
            known = known[: bisect_right([row["step"] for row in known], at)]  # what had been logged when it began
            counts = self.strategy.choose(at, Draw(), known, Draw.of).rows(at, self.batch_size)
            for source, drawn in self._drawn.items():
                drawn.append(drawn[-1] + counts[source])
        return self._drawn

    def _row(self, source: Source, number: int) -> int:
        """The row that is drawn as the ``number``-th from this dataset."""
        n_rows = len(self.datasets[source])
        epoch, place = divmod(number, n_rows)
        if source not in self._orders or self._orders[source][0] != epoch:
            generator = fold(self.seed, f"rows/{source}", epoch)
            self._orders[source] = epoch, torch.randperm(n_rows, generator=generator)
        return int(self._orders[source][1][place])
