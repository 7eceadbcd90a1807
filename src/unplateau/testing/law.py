"""How a broken law is reported."""

from __future__ import annotations

from unplateau.errors import LawError


def demand(kept: bool, subject: object, law: str) -> None:
    """Raises LawError unless the law is kept."""
    if not kept:
        raise LawError(f"{type(subject).__name__} breaks a law: {law}")
