"""A run of a second that looks at itself, saves and ends within twenty steps."""

from __future__ import annotations

import unplateau as up

TINY = up.RunSpec(
    recipe="tiny",
    task=up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8, copies=20), n_pairs=4),
    model=up.ModelConfig(n_layers=2, width=8),
    train=up.TrainConfig(
        steps=20,
        batch_size=8,
        eval_every=5,
        eval_prompts=8,
        probe_every=10,
        probe_prompts=16,
        checkpoint_every=8,
        final_prompts=16,
    ),
)
"""Rows at 0, 5, 10, 15 and 20; checkpoints at 8, 16 and 20."""
