"""The engines by name. Each turns jobs into processes; which run is whose, and how far it is, all learn from disk."""

from unplateau.errors import SpecError, suggest
from unplateau.sweep.launch import Engine, local

ENGINES = ("local",)


def engine_named(name: str) -> Engine:
    """The engine of this name. Raises SpecError if there is none."""
    if name not in ENGINES:
        raise SpecError(f"--engine: unknown engine '{name}'{suggest(name, ENGINES)}")
    return local
