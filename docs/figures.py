"""Draws the pictures of ``docs/concepts`` as SVG: run it after a change and commit what it writes.

What enters: nothing. What leaves: one file for each function in ``PICTURES``. Plain strings, so that the pictures are
the same on every machine and their text stays text.
"""

from pathlib import Path

INK, GREY, GHOST, BLUE, ORANGE = "#1f2933", "#7b8794", "#d5dbe1", "#2563eb", "#e8590c"
TOKENS = (("x", "1"), ("y", "1"), ("x", "2"), ("y", "2"), ("x", "3"))
QUERY = len(TOKENS) - 1
COLUMN, ROW = 44, 66  # distances between positions and between layers
LEVELS = 3  # the embedding and two blocks


def picture(width: int, height: int, label: str, *parts: str) -> str:
    """A whole SVG file on a white card, so that it can be read on a dark page too."""
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0.5 L7 4 L0 7.5 z" fill="{colour}"/></marker>'
        for name, colour in (("grey", GREY), ("blue", BLUE), ("orange", ORANGE))
    )
    both = (
        f'<linearGradient id="both"><stop offset="50%" stop-color="{BLUE}"/><stop offset="50%" stop-color="{ORANGE}"/>'
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="15">\n'
        f"<title>{label}</title>\n<defs>{markers}{both}</linearGradient></defs>\n"
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def words(x: float, y: float, text: str, *, colour: str = INK, size: int = 15, bold: bool = False) -> str:
    """Centred text."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{colour}" font-size="{size}"{weight}>{text}</text>'


def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, *, bend: float = 0) -> str:
    """An arrow, bent to the left of its direction by ``bend``."""
    name = {GREY: "grey", BLUE: "blue", ORANGE: "orange"}.get(colour)
    head = f' marker-end="url(#{name})"' if name else ""
    middle = ((start[0] + end[0]) / 2 - bend, (start[1] + end[1]) / 2 - abs(bend) / 3)
    path = f"M{start[0]:g} {start[1]:g} Q{middle[0]:g} {middle[1]:g} {end[0]:g} {end[1]:g}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{head}/>'


def state(x: float, y: float, colour: str, fill: str = "#ffffff") -> str:
    """A hidden state."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def box(x: float, y: float, text: str, *, colour: str = INK, width: int = 92) -> str:
    """A labelled box centred at a point."""
    frame = f'<rect x="{x - width / 2:g}" y="{y - 15:g}" width="{width}" height="30" rx="5" fill="#ffffff"'
    return f'{frame} stroke="{colour}" stroke-width="2"/>' + words(x, y + 5, text, colour=colour, size=14)


def plus(x: float, y: float) -> str:
    """The place where a branch is added to the residual stream."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="10" fill="#ffffff" stroke="{INK}" stroke-width="2"/>' + words(
        x, y + 5, "+", size=16
    )


def prompt_panel(left: float, top: float, *, weights: bool, context: bool) -> str:
    """The states over a prompt, with what the query's column computes alone and what it reads from the others."""
    other = GREY if context else GHOST
    parts = [column(left + position * COLUMN, top, other) for position in range(QUERY)]
    for position, (token, index) in enumerate(TOKENS):
        colour = other if position < QUERY else INK
        text = f'{token}<tspan font-size="11" dy="4">{index}</tspan>'
        parts.append(words(left + position * COLUMN, top + LEVELS * ROW - 18, text, colour=colour, bold=colour == INK))
    x, colour = left + QUERY * COLUMN, BLUE if weights else ORANGE
    above = "url(#both)" if weights and context else colour
    embedding = BLUE if weights else "#ffffff"  # nothing was read yet: the embedding's context component is zero
    parts.append(column(x, top, colour, fills=(above, above, embedding), connected=weights))
    if context:
        parts += [reads(left, top, level) for level in range(LEVELS - 1)]
    return "\n".join(parts)


def column(
    x: float, top: float, colour: str, *, fills: tuple[str, ...] = ("#ffffff",) * LEVELS, connected: bool = True
) -> str:
    """The states of one position, the topmost layer first."""
    levels = [top + level * ROW for level in range(LEVELS)]
    lines = [arrow((x, y - 10), (x, y - ROW + 11), colour) for y in levels[1:]] if connected else []
    return "\n".join([*lines, *(state(x, y, colour, fill) for y, fill in zip(levels, fills, strict=True))])


def reads(left: float, top: float, level: int) -> str:
    """Attention of the query's column to the positions before it, from one level to the next."""
    y = top + (LEVELS - 1 - level) * ROW
    end = (left + QUERY * COLUMN - 9, y - ROW + 7)
    return "\n".join(arrow((left + position * COLUMN + 7, y - 7), end, ORANGE, bend=8) for position in range(QUERY))


def decomposition() -> str:
    """Hidden state = weights component + context component, over a prompt of two and a half pairs."""
    lefts, top = (50, 380, 710), 92
    titles = (("hidden state", INK), ("weights component", BLUE), ("context component", ORANGE))
    notes = ("computed inside the prompt", "the same weights, the item alone", "the rest: what others contributed")
    middle = QUERY * COLUMN / 2
    parts = [
        words(left + middle, 34, title, colour=colour, size=17, bold=True)
        for left, (title, colour) in zip(lefts, titles, strict=True)
    ]
    parts += [words(left + middle, 58, note, colour=GREY, size=14) for left, note in zip(lefts, notes, strict=True)]
    parts.append(prompt_panel(lefts[0], top, weights=True, context=True))
    parts.append(prompt_panel(lefts[1], top, weights=True, context=False))
    parts.append(prompt_panel(lefts[2], top, weights=False, context=True))
    for sign, x in (("=", 303), ("+", 633)):
        parts.append(words(x, top + ROW + 12, sign, size=36))
    return picture(936, 296, "A hidden state is the sum of a weights component and a context component", *parts)


def block_panel(centre: float, kind: str) -> str:
    """One block at one position: the residual stream upwards, the attention branch as this cut leaves it."""
    stream, branch = centre - 58, centre + 38
    colour = ORANGE if kind == "causal" else BLUE
    parts = [
        f'<path d="M{stream:g} 372 V84" stroke="{INK}" stroke-width="2" fill="none"/>',
        arrow((stream, 90), (stream, 74), GREY),
        words(stream, 62, "layer l", colour=GREY, size=14),
        words(stream, 392, "layer l \N{MINUS SIGN} 1", colour=GREY, size=14),
        arrow((stream, 196), (branch - 47, 184), GREY),
        box(branch, 176, "norm, MLP"),
        arrow((branch, 160), (stream + 12, 124), GREY, bend=-6),
        plus(stream, 120),
    ]
    if kind == "zero":
        return "\n".join([*parts, words(branch + 6, 300, "nothing", colour=GREY, size=14)])
    parts += [arrow((stream, 356), (branch - 47, 350), GREY), box(branch, 344, "norm"), plus(stream, 240)]
    below = branch, 328
    if kind != "identity":
        parts += [
            arrow(below, (branch, 302), colour),
            box(branch, 286, "attention" if kind == "causal" else "value, output", colour=colour, width=100),
        ]
        below = branch, 270
    parts.append(arrow(below, (stream + 12, 242), colour, bend=-10))
    if kind == "causal":
        parts += [arrow((branch + 79, y), (branch + 52, 286 + (y - 286) / 3), ORANGE) for y in (268, 286, 304)]
    return "\n".join(parts)


def cuts() -> str:
    """One block with attention as it is, and under each of the three cuts."""
    panels = {
        "causal": "reads itself and all before",
        "self": "reads itself only",
        "identity": "passes its own norm on",
        "zero": "adds nothing",
    }
    parts = []
    for number, (kind, note) in enumerate(panels.items()):
        centre = 130 + 240 * number
        parts.append(words(centre, 30, kind, size=17, bold=True, colour=ORANGE if kind == "causal" else BLUE))
        parts.append(words(centre, 424, note, size=14))
        parts.append(block_panel(centre, kind))
        if number:
            x = centre - 120
            parts.append(f'<path d="M{x} 20 V430" stroke="{GHOST}" stroke-width="1.5"/>')
    return picture(980, 444, "One block with causal attention and under the cuts self, identity and zero", *parts)


PICTURES = {"decomposition.svg": decomposition, "cuts.svg": cuts}

if __name__ == "__main__":
    for file, draw in PICTURES.items():
        (Path(__file__).parent / "concepts" / file).write_text(draw(), encoding="utf-8")
