"""How figures look: one palette that survives colour blindness and grey print, sizes for a phone's width.

Matplotlib draws the same bytes for everyone, whatever their own settings, which are left as they were.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl

INK, MUTED, LINE = "#1b2129", "#5c6570", "#ced3da"
"""Text, secondary text, rules. On the page they follow its colours; nothing else in a figure has these three."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours (2008), which readers with any colour vision tell apart."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL = (5.0, 3.2)
"""Inches at 72 points: 360 points wide, so that a point is about a pixel on a phone."""

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # the one font that comes with matplotlib
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "unplateau",
}


@dataclass(frozen=True)
class Look:
    """Colour, dash pattern (as matplotlib has it) and marker of a strategy; no two strategies share all three.

    ``width``: of its line among those of others, in points.
    """

    colour: str
    dashes: Any
    marker: str
    width: float = 1.5


def looks(strategies: Sequence[str]) -> dict[str, Look]:
    """A look for each strategy, by name and not by result.

    Plain training is always grey, solid and wide: where others lie on it, as on a plateau, it is still seen.
    """
    others = sorted(set(strategies) - {"plain"})
    chosen = {
        name: Look(PALETTE[i % len(PALETTE)], DASHES[(i + 1) % len(DASHES)], MARKERS[(i + 1) % len(MARKERS)])
        for i, name in enumerate(others)
    }
    return {**chosen, "plain": Look("#6e7681", "-", MARKERS[0], width=3.0)}


@contextmanager
def house_style(**settings: object) -> Iterator[None]:
    """Matplotlib with our settings and not the user's; both return to what they were."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script that the font lacks
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS | settings)
        yield


def spoken(name: str) -> str:
    """The name of a factor or a setting as words: ``object_hue`` is ``object hue``."""
    return printable(name.replace("_", " "))


def printable(text: str, most: int = 48) -> str:
    """The text without control characters, shortened in the middle if it is longer than a label can be."""
    letters = "".join(letter if letter.isprintable() else " " for letter in text)
    clean = " ".join(letters.split()) or "(no name)"
    if len(clean) <= most:
        return clean
    return f"{clean[: most * 2 // 3]}...{clean[-(most // 3 - 3) :]}"
