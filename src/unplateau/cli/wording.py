"""Options of the commands that put a task into words for a language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

TaskFile = Annotated[Path, arg(metavar="TASK.(yaml|json)")]
LabelWords = Annotated[str | None, arg(metavar="A,B,...")]


@dataclass(frozen=True)
class Wording:
    r"""How prompts are written, for language models.

    Args:
        template: one pair, such as "{item}: {label}\n", where \n is a line break
        labels: words for the labels, with commas; default: the task's own, else A, B, C ...
    """

    template: str = r"{item} {label}\n"
    labels: LabelWords = None

    @property
    def pair(self) -> str:
        """The template with its line breaks."""
        return self.template.replace(r"\n", "\n")

    @property
    def label_words(self) -> tuple[str, ...] | None:
        """The labels one by one."""
        return None if self.labels is None else tuple(self.labels.split(","))


Worded = Annotated[Wording, arg(name="")]
ASKED_PLAINLY = Wording()
"""The default."""
