"""What a model really reads, found by changing what enters it: whether positions are where somebody says they are."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unplateau.errors import SpecError
from unplateau.integrations.blocks import BlockRecorder, Pass
from unplateau.integrations.calls import Call
from unplateau.integrations.pairs import Pairs
from unplateau.rng import fold

TOLERANCE = 1e-4
"""A state has changed where it differs by more than this share of the largest one."""
SAME = 0.02
"""The same state of two passes of other shapes differs by less than this share, also in half precision."""


@dataclass(frozen=True)
class Perturbation:
    """Passes over two prompts with something changed in the first of them.

    ``run``: makes a pass of the model. All are made without gradients and leave modes and random numbers alone.
    """

    recorder: BlockRecorder
    run: Callable[..., Pass]
    call: Call
    pairs: Pairs

    @classmethod
    def of(cls, recorder: BlockRecorder, run: Callable[..., Pass], call: Call, pairs: Pairs) -> "Perturbation":
        """The prompt with most pairs, and one beside it."""
        n_rows, longest = len(pairs.items), int(pairs.has_label.sum(1).argmax())
        two = torch.tensor([longest, (longest + 1) % n_rows])

        def taken(one: Tensor) -> Tensor:
            return one[two.to(one.device)] if one.ndim and len(one) == n_rows else one

        return cls(recorder, run, call.map(taken), pairs.map(taken))

    @property
    def middle(self) -> int:
        """The pair in the middle of the prompt."""
        return int(self.pairs.has_label[0].sum()) // 2

    def earliest_reader(self) -> int | None:
        """The first position whose last state depends on a label behind it; None in a causal model."""
        at = int(self.pairs.labels[0, self.middle])
        last = len(self.recorder.blocks)

        def other(states: Tensor) -> Tensor:
            noise = torch.randn(states.shape[2], generator=fold(0, "perturbation")).to(states)
            moved = states.clone()
            moved[0, at] += noise * states[0].std()
            return moved

        before, after = (self._states(self.run(self.call, change=change), last) for change in (None, other))
        changed = _changed(before, after)
        return next((one for one in changed if one < at), None)

    def check_label(self, name: str, labels: Tensor, *, by_position: bool, both_ways: bool) -> None:
        """Raises SpecError, saying what was seen, unless another label enters the blocks where labels stand.

        ``name``: of ``labels``, the tensor of the call that holds them, one for each pair or position. In a model that
        reads ``both_ways`` labels may be compared, or scaled, before the first block.
        """
        n_labels = int(self.pairs.has_label[0].sum())
        places = self.pairs.labels[0, :n_labels].tolist() if by_position else list(range(n_labels))
        own = labels[0, places[self.middle]]
        others = [labels[0, place] for place in places if not torch.equal(labels[0, place], own)]
        if not others:
            return
        changed = labels.clone()
        changed[0, places[self.middle]] = others[0]
        before, after = (
            self._states(self.run(call, last=0), 0) for call in (self.call, self.call.put(labels, changed))
        )
        seen, wanted = _changed(before, after), int(self.pairs.labels[0, self.middle])
        items = set(self.pairs.items[0].tolist()) - {wanted} if self.pairs.apart else set()
        if wanted not in seen or (items & set(seen) and not both_ways):
            where = f"at {', '.join(map(str, seen))}" if seen else "nowhere"
            raise SpecError(
                f"labels: another label of pair {self.middle + 1} ({name}) changes what enters block 1 {where}, but it "
                f"is said to stand at {wanted}: see items and labels"
            )

    def check_first(self, alone: Callable[[Call, Pairs], tuple[Call, Tensor]]) -> None:
        """Raises SpecError unless the first item is the same alone as in its prompt, where it sees nothing else."""
        last, at = len(self.recorder.blocks), int(self.pairs.items[0, 0])
        call, positions = alone(self.call, self.pairs)
        full, single = self.run(self.call), self.run(call)
        for layer in (0, last):
            states, own = self._states(full, layer), self._states(single, layer)[0, int(positions[0])]
            if float((states[0, at] - own).abs().max()) > SAME * float(states[0].abs().max()):
                raise SpecError(
                    f"after {layer} blocks the first item of a prompt is not what the model makes of a prompt of that "
                    "pair alone: see items and labels, or give alone="
                )

    def _states(self, done: Pass, layer: int) -> Tensor:
        return self.recorder.states(done, layer).float()


def _changed(before: Tensor, after: Tensor) -> list[int]:
    """Positions of the first row (B, T, D) whose states differ."""
    difference = (before[0] - after[0]).abs().amax(1)
    return (difference > TOLERANCE * before[0].abs().max()).nonzero()[:, 0].tolist()
