"""Columns of results: one list, three tables."""

import csv
import re

import pytest

from run_directories import MadeRun, make_runs
from unplateau.analysis.columns import RESULTS, Column, results_csv, with_unit
from unplateau.analysis.compare import by_strategy
from unplateau.analysis.runs import summaries
from unplateau.analysis.survival import Bounded
from unplateau.cli.running import tell_story
from unplateau.report import write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder, [MadeRun("plain", seed, probes=False) for seed in range(3)])
    make_runs(folder, [MadeRun("mixed", seed, 400 + 300 * seed if seed else None, joules=False) for seed in range(3)])
    return folder


def cells(folder, strategy):
    runs = by_strategy(summaries(folder))[strategy]
    return {column.name: (cell.text, cell.note) for column in RESULTS for cell in [column.cell(runs)]}


def test_times_over_seeds_count_those_that_never_got_there(folder):
    assert cells(folder, "plain")["escape"] == ("> 2,000", "0 of 3")
    text, note = cells(folder, "mixed")["escape"]
    assert note == "2 of 3"
    assert 900 < int(text.replace(",", "")) < 1200  # the slower of the two: the third run is later than both


def test_other_values_over_seeds_are_medians_of_what_is_known(folder):
    plain, mixed = cells(folder, "plain"), cells(folder, "mixed")
    assert re.fullmatch(r"0\.\d\d to 0\.\d\d", mixed["accuracy"][1])
    assert mixed["FLOPs"] == ("5.00 TFLOP", "")
    assert plain["score: end"] == mixed["energy"] == ("–", "")  # noqa: RUF001


def test_a_column_that_is_added_shows_in_all_three_tables(folder, tmp_path, capsys):
    """At a terminal, in the page and in results.csv, without any other change."""
    peak = Column("peak loss", "highest", "training loss", lambda run: max(run.record.history.column("loss")[1]))
    tokens = Column("tokens", "read", "training loss", lambda run: run.costs.tokens, "tokens")
    RESULTS.extend([peak, tokens])
    try:
        tell_story([folder], tmp_path)
        write_results(folder, tmp_path / "results.csv")
    finally:
        del RESULTS[-2:]
    head, _, first = capsys.readouterr().out.splitlines()[:3]
    assert head.split()[-3:] == ["peak", "loss", "tokens"]
    assert first.split()[-3:] == ["1.74", "4.10", "Mtokens"]
    page = (tmp_path / "report.html").read_text()
    assert '<th colspan="2" scope="colgroup" class="over">training loss</th>' in page
    assert "<td>1.74<" in page
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["tokens (tokens)"] for row in rows] == ["4096000"] * 6
    assert all(float(row["peak loss"]) == pytest.approx(1.74, abs=0.1) for row in rows)


def test_csv_has_a_row_for_each_run_and_leaves_out_what_is_not_known(folder):
    rows = list(csv.DictReader(results_csv(summaries(folder)).splitlines()))
    assert [(row["strategy"], row["seed"]) for row in rows] == [(s, n) for s in ("mixed", "plain") for n in "012"]
    censored, escaped = rows[0], rows[1]
    assert (censored["escape"], censored["steps"]) == ("", "2000")
    assert int(escaped["escape"]) == pytest.approx(700, abs=120)
    assert escaped["energy (J)"] == rows[3]["score: end"] == ""
    assert {row["cut"] for row in rows} == {"self"}


def test_a_bound_is_no_number(folder):
    column = Column("later", "later", "", lambda run: Bounded.above(run.seed))
    assert column.cell(summaries(folder)[:1]).text.startswith(">")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00 J"),
        (900, "900 J"),
        (999.7, "1,000 J"),
        (1234, "1.23 kJ"),
        (5e12, "5.00 TJ"),
        (46e9, "46.0 GJ"),
        (1e30, "1,000,000,000 ZJ"),
    ],
)
def test_units(value, text):
    assert with_unit(value, "J") == text
