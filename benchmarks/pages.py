"""Tables of the documentation are made from result files: between marks that name the file, and a part of it.

<!-- from benchmarks/results/speed.json: steps -->
...
<!-- end -->
"""

import re
from collections.abc import Callable, Sequence

MADE = re.compile(
    r"(?P<begin><!-- from benchmarks/results/(?P<file>[\w.-]+)(?:: (?P<part>\w+))? -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def made_anew(text: str, table: Callable[[str, str], str | None]) -> str:
    """A page with its tables made anew by ``table(file, part)``; None leaves one as it is."""

    def made(found: re.Match[str]) -> str:
        new = table(found["file"], found["part"] or "")
        return found[0] if new is None else f"{found['begin']}\n{new}\n{found['end']}"

    return MADE.sub(made, text)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its head."""
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rest, ""])
