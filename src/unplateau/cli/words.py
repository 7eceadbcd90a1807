"""Results in words, as several commands print them."""

from __future__ import annotations

from unplateau.plateau import Plateau


def plateau_words(plateau: Plateau) -> str:
    """``plateau from 0 to 1600 (1550 to 1650) at 1.386``; of one that goes on, where the curve stops."""
    where = f"plateau from {plateau.start:g} to {plateau.end:g}"
    level = f"at {plateau.level:.4g}"
    if not plateau.ended:
        return f"{where} {level}: not over where the curve stops"
    low, high = plateau.interval
    return f"{where} (95 % interval of the end: {low:g} to {high:g}) {level}"


def event_words(step: int | None, last: int) -> str:
    """``step 1600``, or ``not by step 2000`` for a run that never got there."""
    return f"not by step {last}" if step is None else f"step {step}"
