"""Checkers of the laws that every task, model, strategy and observer must keep, for ours and for yours.

Each raises a :class:`~unplateau.errors.LawError` that names the first broken law.
"""

from unplateau.testing.models import check_model
from unplateau.testing.tasks import check_task
from unplateau.testing.training import check_curriculum, check_loss_term, check_observer, check_resume

__all__ = ["check_curriculum", "check_loss_term", "check_model", "check_observer", "check_resume", "check_task"]
