"""What values show of themselves in a notebook, run in a real one where that is installed."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import unplateau as up
from run_directories import DEMO, MadeRun, make_run, make_runs
from unplateau.history import History
from unplateau.notebook import facts_html, table_html
from unplateau.report import figures

ROWS = [{"step": 0, "loss": 1.5, "scores": [0.5]}, {"step": 10, "loss": 0.123456, "accuracy": 0.25}]


class Read(HTMLParser):
    """Cells of a table, and whether what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_tables_are_escaped_and_long_ones_cut() -> None:
    read = Read(table_html(("<a>", "b"), [("<script>", None), (1.23456, 2)], caption="&"))
    assert not read.open
    assert read.cells == ["<a>", "b", "<script>", "", "1.235", "2"]
    long = Read(table_html(("n",), [(number,) for number in range(100)])).cells
    assert long == ["n", *map(str, range(5)), "…", *map(str, range(95, 100))]
    assert Read(facts_html([("a<b", 1)])).cells == ["a<b", "1"]


def test_a_history() -> None:
    history = History(ROWS)
    assert repr(history) == "History(2 rows, steps 0 to 10; columns step, loss, scores, accuracy)"
    assert repr(History()) == "History(no rows)"
    assert Read(history._repr_html_()).cells == ["step", "loss", "accuracy", "0", "1.5", "", "10", "0.1235", "0.25"]
    pd = pytest.importorskip("pandas", reason="needs pandas (extra notebook)")
    frame = history.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame["loss"].tolist() == [1.5, 0.123456]
    assert math.isnan(frame["accuracy"][0])


def test_plateaus() -> None:
    steps = range(200)
    found = up.find_plateaus(steps, [1.0 if step < 100 else 0.2 for step in steps])
    low, high = found[0].interval
    assert Read(found._repr_html_()).cells[5:10] == ["plateau", "0", "99", f"{low:g} to {high:g}", "1"]
    assert Read(found._repr_html_()).cells[10::3] == ["levels off", "not over"]
    assert up.find_plateaus([], [])._repr_html_() == "<p>no plateau</p>"


def test_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, MadeRun("mixed", 3, falls=300, steps=1000))
    assert repr(run).startswith("RunRecord(recipe demo, strategy mixed, seed 3, step 1000 of 1000, done, progress 0.9")
    assert len(repr(run)) < 100 + len(str(run.path))
    assert {"mixed", "1000 of 1000, done", str(run.path)} <= set(Read(run._repr_html_()).cells)
    begun = make_run(tmp_path / "b", MadeRun(steps=100, finished=False))
    assert "step 100 of 100, progress" in repr(begun)


def test_a_comparison_and_a_summary(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, DEMO)
    comparison, summary = up.compare(runs), up.summarise(runs)
    assert repr(comparison) == ("Comparison(demo: 8 runs of plain, component-loss, mixed, warm-up; against plain)")
    assert repr(summary) == "Summary(8 runs, 1 comparisons)"
    read = Read(comparison._repr_html_())
    assert not read.open
    assert read.cells.count("mixed") == 2
    assert all(cell in str(comparison) for cell in read.cells)
    assert Read(summary._repr_html_()).cells[:3] == ["strategy", "seed", "steps"]
    pytest.importorskip("pandas", reason="needs pandas (extra notebook)")
    frame = comparison.to_frame()
    assert frame.groupby("milestone").size().to_dict() == {"escape": 4, "completion": 4}
    assert math.isnan(frame[frame.strategy == "plain"]["step"].iloc[0])
    assert frame[frame.strategy == "plain"]["step_low"].iloc[0] == 2000
    assert len(summary.to_frame()) == 8


def test_a_figure_is_a_picture_without_pyplot(tmp_path: Path) -> None:
    figure = figures(make_runs(tmp_path, [MadeRun(falls=300, probes=False)]))["loss"]
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_the_version() -> None:
    assert up.__version__.count(".") == 2


CELLS = (
    "import unplateau as up\n"
    "task = up.FactorTask(source=up.RandomCodes(sizes=(3, 3), width=8, copies=20), n_pairs=4)\n"
    "train = up.TrainConfig(steps=20, batch_size=8, probe_every=20, probe_prompts=16, final_prompts=16)\n"
    "class Half(up.Mixed):\n"
    "    def mix(self, step, target, history):\n"
    "        return [(0.5, target.fixed()), (0.5, target)]\n"
    "spec = up.RunSpec(task=task, model=up.ModelConfig(width=8), train=train, strategy=up.Strategy(Half()))\n"
    "run = up.train(spec, out='runs')\n"
    "run",
    "class Half(up.Mixed):\n"
    "    def mix(self, step, target, history):\n"
    "        return [(0.25, target.fixed()), (0.75, target)]\n"
    "again = up.train(spec.with_strategy(up.Strategy(Half())), out='runs', progress=False)\n"
    "assert again.path != run.path\n"
    "run.history",
    "from unplateau.report import figures\nfigures(run)['loss']",
)


def test_a_real_notebook(tmp_path: Path) -> None:
    """A bar while it trains, tables and pictures without tricks, and an edited class that is another run."""
    client = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    import nbformat  # noqa: PLC0415

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    client.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [[one for one in cell.outputs if "data" in one] for cell in book.cells]
    bar, run = (one.data["text/html"] for one in outputs[0])
    assert 'value="20" max="20"' in bar
    assert "done" in bar
    assert Read(run).cells[:2] == ["recipe", "run"]
    assert Read(outputs[1][-1].data["text/html"]).cells[0] == "step"
    assert "image/png" in outputs[2][-1].data
    assert not [one for cell in book.cells for one in cell.outputs if one.get("name") == "stderr"]
