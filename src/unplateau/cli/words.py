"""Results in words, as several commands print them."""

from __future__ import annotations


def event_words(step: int | None, last: int) -> str:
    """``step 1600``, or ``not by step 2000`` for a run that never got there."""
    return f"not by step {last}" if step is None else f"step {step}"
