"""Plateaus of a learning curve and the steps at which runs escape them: numbers in, numbers out, no torch."""

from unplateau.plateau.detect import Plateau, find_plateaus
from unplateau.plateau.progress import completion_step, escape_step, progress

__all__ = ["Plateau", "completion_step", "escape_step", "find_plateaus", "progress"]
