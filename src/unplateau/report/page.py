"""The report: one HTML file that opens without a network.

It holds its pictures and styles, runs no script, and asks nothing of any server, so that it can be mailed, archived and
opened in ten years.
"""

import json
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from unplateau.analysis.columns import results_csv
from unplateau.analysis.compare import by_strategy, comparison_of
from unplateau.analysis.runs import Groups, Runs, RunSummary, Summaries, summaries
from unplateau.damage import LeftOut
from unplateau.layout import CUTS, HOW_CUT
from unplateau.outputs import demand_replaceable, like_table, marked, write_output
from unplateau.report.curves import CONTEXT_SPREAD, all_panels, context_at_chance
from unplateau.report.facts import brief_table, facts, provenance, results_table, savings_table
from unplateau.report.finding import numbers, sentence
from unplateau.report.hover import areas
from unplateau.report.panels import AnyPanel
from unplateau.report.plots import rendered, single
from unplateau.report.prompts import shown_prompts
from unplateau.report.style import INK, LINE, MUTED, printable


def write_report(runs: Runs, path: str | Path, *, force: bool = False) -> Path:
    """Writes the report on these runs (records, run directories, or folders of them) and returns its path.

    Where runs differ in other settings than strategy and seed, each choice of these has its own row and panels. A
    damaged run is left out, with a warning, and named at the end of the report. Raises SpecError if there is no run, or
    two of one spec; DamagedRunsError if none can be read; StorageError if the system refuses to write; OutputError if
    the path holds anything but an earlier report, unless ``force`` allows to replace a regular file.
    """
    path = Path(path)
    demand_replaceable(path, marked("html"), force=force)  # before the work
    found = reportable(runs)
    content = page(by_strategy(found), found.left_out).encode("utf-8", errors="replace")
    write_output(path, content, marked("html"), force=force)
    return path


def write_results(runs: Runs, path: str | Path, *, force: bool = False) -> Path:
    """Writes the columns of the report's first table as CSV, one row a run, and returns the path.

    Raises as :func:`write_report`.
    """
    path = Path(path)
    groups = by_strategy(summaries(runs))
    table = results_csv([run for members in groups.values() for run in members]).encode()
    write_output(path, table, like_table(table), force=force)
    return path


def reportable(runs: Runs) -> Summaries:
    """These runs with what a report shows of them at hand; those that it cannot show are left out, with a warning."""
    return summaries(runs, _show_alone)


def _show_alone(run: RunSummary) -> None:
    """Raises what a report would if the run were the only one; what is slow to read of it is kept."""
    groups = {run.strategy: (run,)}
    all_panels(groups)
    facts(groups)
    provenance(groups)
    brief_table(groups, None)
    results_table(groups)


def page(groups: Groups, damaged: Sequence[LeftOut] = ()) -> str:
    """The report as HTML. ``damaged``: runs that could not be read."""
    runs = [run for members in groups.values() for run in members]
    comparison = comparison_of(runs)
    scored = [run for run in runs if run.weights_score]
    prefixes = (f"p{number}" for number in count())
    panels = all_panels(groups)
    left_out = {"context-score"} & panels.keys() if context_at_chance(groups) else set()
    return _template().render(
        title=f"Learning plateaus: {', '.join(dict.fromkeys(printable(run.recipe) for run in runs))}",
        finding=sentence(groups),
        numbers=numbers(groups, comparison),
        brief=brief_table(groups, comparison),
        tables=[table for table in (results_table(groups), comparison and savings_table(comparison)) if table],
        pictures={
            kind: [(panel.title, inline_svg(panel, next(prefixes))) for panel in of_kind]
            for kind, of_kind in panels.items()
            if kind not in left_out
        },
        left_out=left_out,
        spread=CONTEXT_SPREAD,
        prompts=shown_prompts(groups),
        held_out=all(run.record.tested_on == "held-out" for run in runs),
        facts=facts(groups),
        provenance=[*provenance(groups), *([("Left out", [*map(str, damaged)])] if damaged else [])],
        specs=[
            (printable(name), json.dumps(dict(members[0].record.spec), indent=2)) for name, members in groups.items()
        ],
        block=scored[0].block if scored else None,
        no_scores=_why_no_scores(runs),
        cut=" or ".join(dict.fromkeys(run.cut for run in runs)),
        cuts={cut: HOW_CUT[cut] for cut in CUTS if cut != "item" or cut in {run.cut for run in runs}},
        progress=runs[0].record.floors.progress,
    )


def _why_no_scores(runs: Sequence[RunSummary]) -> str:
    probed = any(run.probed for run in runs)
    why = (
        "The items of this task have no factors that a probe could read off" if probed else "These runs were not probed"
    )
    return f"{why}, so there are no scores to show."


def inline_svg(panel: AnyPanel, prefix: str) -> Markup:
    """The panel as an SVG element that takes the page's fonts and colours, with its numbers as its name.

    A mouse finds the values; a screen reader, to which the picture is one image, has the name.
    Names inside it get ``prefix``, because several pictures on one page would otherwise refer to each other's parts.
    """
    figure = single(panel)
    text = rendered(figure, "svg", **{"svg.fonttype": "none"}).decode()
    text = text[text.index("<svg") : text.rindex("</svg>")]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}-", text)
    for colour, variable in ((INK, "currentColor"), (MUTED, "var(--muted)"), (LINE, "var(--line)")):
        text = text.replace(colour, variable)
    box = re.search(r'viewBox="[^"]*"', text)
    start = f'<svg class="panel" role="img" aria-label="{escape(panel.alt)}" {box[0] if box else ""}'
    text = re.sub(r"<svg[^>]*", lambda _: f'{start} xmlns:xlink="http://www.w3.org/1999/xlink"', text, count=1)
    return Markup(f"{text}{_hover(panel, figure)}</svg>")


def _hover(panel: AnyPanel, figure: Figure) -> str:
    """What a mouse finds in the picture, as invisible rectangles with a title."""
    width, height = figure.get_size_inches() * 72
    axes = figure.axes[0].get_position()
    rectangles = []
    for area in areas(panel):
        x, y = width * (axes.x0 + axes.width * area.left), height * (1 - axes.y0 - axes.height * area.high)
        across, down = width * axes.width * (area.right - area.left), height * axes.height * (area.high - area.low)
        box = f'x="{x:.1f}" y="{y:.1f}" width="{across:.1f}" height="{down:.1f}"'
        rectangles.append(f"<rect {box}><title>{escape(area.text)}</title></rect>")
    return f'<g class="hover" aria-hidden="true">{"".join(rectangles)}</g>'


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("unplateau.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")
