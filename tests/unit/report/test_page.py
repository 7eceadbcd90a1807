"""The page as text: complete, escaped, self-contained, for every kind of run there is."""

import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from run_directories import DEMO, MadeRun, make_run, make_runs
from unplateau import store
from unplateau.analysis.compare import by_strategy, compare, summarise
from unplateau.analysis.runs import summarise_run
from unplateau.cli.reading import show
from unplateau.errors import SpecError, StorageError
from unplateau.items.words import Words
from unplateau.report import save_figures, write_report, write_results
from unplateau.report.prompts import shown_prompts
from unplateau.rng import fold_seed
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.train.loop import train
from unplateau.train.spec import RunSpec, TrainConfig

TRAIN = TrainConfig(steps=2, eval_every=2, probe_every=2, probe_prompts=16, batch_size=4, final_prompts=16)
SELECTION = RunSpec(task=WordSelection(words=Words(attributes=("topic",)), n_pairs=4), train=TRAIN)
HOSTILE = "<script>alert(1)</script> $x^{ \"'&amp; _a\x07\u202e{{ 7*7 }}"
NO_END = {"meta", "img", "link", "br", "input", "path", "use", "rect", "line", "image"}


class Checker(HTMLParser):
    """Collects tags and ids, and refuses elements that close in the wrong order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.texts = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in NO_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if tag not in NO_END:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def checked(path):
    page = Checker()
    page.feed(path.read_text())
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    return page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make_runs(folder / "runs", DEMO)
    return write_report(folder / "runs", folder / "new" / "report.html")


def test_is_one_whole_page(report):
    page = checked(report)
    assert [tag for tag, _ in page.tags].count("h1") == 1
    text = " ".join(page.texts)
    for heading in (
        "What was run",
        "Results",
        "Loss and accuracy",
        "What the weights know",
        "Two prompts",
        "How to read it",
    ):
        assert heading in text
    assert "unplateau demo --seeds 2" in text
    assert "> 2,000" in text


def test_asks_nothing_of_any_server(report):
    page = checked(report)
    text = report.read_text()
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\((?!#)", text)
    addresses = [
        value for _, given in page.tags for name, value in given.items() if name in ("src", "href", "xlink:href")
    ]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)


def test_references_inside_pictures_lead_to_the_same_page(report):
    page = checked(report)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', report.read_text())
    assert set(references) <= set(page.ids)


def test_pictures_and_tables_have_names(report):
    page = checked(report)
    pictures = [given for tag, given in page.tags if tag == "svg"]
    assert len(pictures) == 2 + 4 * 9
    assert all(given["role"] == "img" and len(given["aria-label"]) > 60 for given in pictures)
    assert all(given["alt"] for tag, given in page.tags if tag == "img")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") == 5
    assert all(given.get("scope") for tag, given in page.tags if tag == "th")


def test_the_same_runs_give_the_same_bytes(tmp_path):
    make_run(tmp_path / "runs", MadeRun("mixed", falls=600))
    first, second = (write_report(tmp_path / "runs", tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_hostile_names_are_text(tmp_path):
    runs = [MadeRun(recipe="r"), MadeRun(HOSTILE, recipe="r", falls=500, command="<img src=x onerror=alert(1)>")]
    page = checked(write_report(make_runs(tmp_path, runs), tmp_path / "report.html"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    assert "<script>alert(1)</script>" in "".join(page.texts)
    assert "{{ 7*7 }}" in "".join(page.texts)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param([MadeRun()], id="one run, stuck"),
        pytest.param([MadeRun("mixed", 4, 300)], id="no plain training"),
        pytest.param([MadeRun(falls=400), MadeRun("mixed", falls=900, prompts=False)], id="some prompts missing"),
        pytest.param([MadeRun(falls=400, prompts=False)], id="no prompts"),
        pytest.param([MadeRun(falls=400, probes=False, joules=False)], id="no probes"),
        pytest.param([MadeRun(falls=400), MadeRun("mixed", falls=400, probes=False)], id="some probes"),
        pytest.param([MadeRun(), MadeRun("mixed", falls=200, steps=250, finished=False)], id="unfinished"),
        pytest.param([MadeRun(steps=0, finished=False), MadeRun("mixed", falls=500)], id="hardly begun"),
        pytest.param([MadeRun(seed=s, falls=f) for s, f in enumerate((300, None, 700))], id="mixed censoring"),
        pytest.param(
            [MadeRun(falls=500, model={"n_layers": 1}), MadeRun("x", 9, model={"n_layers": 1})], id="one layer"
        ),
        pytest.param([MadeRun(falls=500, progress="accuracy")], id="progress of accuracy"),
    ],
)
def test_every_kind_of_run(tmp_path, made):
    checked(write_report(make_runs(tmp_path, made), tmp_path / "report.html"))


def test_a_run_without_a_single_row(tmp_path):
    record = make_run(tmp_path, MadeRun(finished=False))
    (record.path / store.METRICS).write_text("")
    checked(write_report(record.path, tmp_path / "report.html"))


def test_guesses_before_the_escape_and_at_the_end(tmp_path):
    runs = make_runs(tmp_path, [MadeRun(), MadeRun("mixed", 0), MadeRun("mixed", 1, 600)])
    first, second = shown_prompts(by_strategy([summarise_run(record) for record in runs]))
    assert first.rule == "The label follows the scale."
    assert [row.when.split(" (")[0] for row in first.guesses] == [
        "at the start, step 0",
        "at the end, step 2,000",
        "before escape, step 600",
        "at the end, step 2,000",
    ]
    assert "seed 1" in first.guesses[2].when  # the seed that escaped
    assert first.guesses[3].n_right + second.guesses[3].n_right > 20


def test_a_prompt_of_words_shows_words_rule_and_guesses(tmp_path):
    record = train(SELECTION, out=tmp_path, device="cpu")
    page = write_report(record, tmp_path / "report.html").read_text()
    shown = SELECTION.task.sample(0, batch_size=2, split="test", seed=fold_seed(0, "shown prompts"))
    for texts, topic in zip(SELECTION.task.shown(shown).texts, shown.hidden_factor.tolist(), strict=True):
        assert all(f">{text}</th>" in page for text in texts)
        assert f"The answer is the word whose topic is {SELECTION.task.shape.choices[topic]}." in page
    guesses = record.history.last("guesses")
    assert f">{SELECTION.task.shown(shown).labels[guesses[0][0]]}<span" in page
    assert "The items are held out" not in page
    assert "the model has trained on all items" in page
    assert "held-out" not in page.lower()


def test_a_page_on_numbers_has_no_empty_panels(tmp_path, capsys):
    spec = RunSpec(recipe="lines", task=LinearRegression(n_pairs=4), train=TRAIN)
    runs = [train(spec.with_strategy(name), out=tmp_path, device="cpu") for name in ("plain", "mixed")]
    path = write_report(runs, tmp_path / "report.html")
    page = checked(path)
    text = " ".join(page.texts)
    assert "no factors that a probe could read off" in text
    assert "4 pairs of an item and a number" in text
    assert "final progress with plain training; Bayes-optimal: 1.00" in text
    assert "Loss (in units of the labels' variance) of the two exact predictors: no-context 1.00" in text
    for absent in ("ccuracy", "Two prompts", "Context score", "Hidden", "Factors and their sizes", "score, block"):
        assert absent not in text, absent
    assert {path.stem for path in save_figures(runs, tmp_path / "figures", ("csv",))} == {
        "progress-by-step",
        "progress-by-compute",
        "loss",
        "labels-are-bound",
        "queries-look",
    }
    show(runs[0].path)
    shown = capsys.readouterr().out
    assert "accuracy" not in shown
    assert "weights score   -\n" in shown
    assert summarise(runs).as_dict()["runs"][0]["final_accuracy"] is None
    assert "mixed" in str(compare(runs))


@pytest.mark.parametrize(
    ("task", "item", "rule"),
    [
        (AssociativeRecall(n_pairs=4), "key ", "A key that comes again has the label that it had before."),
        (Clusters(n_pairs=4), "class ", "Items of the same class have the same label."),
        (SparseParity(n_pairs=4), "+", "The label is the product of sign"),
    ],
)
def test_prompts_of_classic_tasks_can_be_read(tmp_path, task, item, rule):
    record = train(RunSpec(task=task, train=TRAIN), out=tmp_path, device="cpu")
    page = write_report(record, tmp_path / "report.html").read_text()
    assert rule in page
    assert page.count(f'<tr><th scope="row" title="item 1: {item if item != "+" else "sign"}') == 2
    assert ("context score of block" in page) == isinstance(task, SparseParity)  # after two steps: at chance


def context_of(made, tmp_path):
    """What the page on these runs says of their context score, in its section on scores."""
    text = " ".join(" ".join(checked(write_report(make_runs(tmp_path, made), tmp_path / "report.html")).texts).split())
    section = text[text.index("What the weights know") : text.index("Weights score of every layer")]
    return section[section.lower().index("context score") :]


@pytest.mark.parametrize(
    "made", [[MadeRun()], [MadeRun(), MadeRun("mixed"), MadeRun("mixed", 1)], [MadeRun(falls=1999)]], ids=len
)
def test_a_context_score_at_chance_in_all_runs_is_left_out_in_words(made, tmp_path):
    said = context_of(made, tmp_path)
    assert said.startswith("context score of block 3 (can the hidden factor be read off the context component?) ended")
    assert "is not drawn" in said
    assert "chance shows only" not in said
    (tmp_path / "figures").mkdir()
    assert "context-score" in {path.stem for path in save_figures(tmp_path / "demo", tmp_path / "figures", ["csv"])}


@pytest.mark.parametrize("made", [[MadeRun(), MadeRun("mixed", falls=900)], [MadeRun(falls=300)]], ids=len)
def test_a_context_score_that_rises_anywhere_is_drawn_and_explained(made, tmp_path):
    said = context_of(made, tmp_path)
    assert said.startswith("Context score of block 3: can the hidden factor be read off?")
    assert "Chance is the share of the commonest factor" in said
    assert f"Context score of block 3 of {made[-1].strategy} under cut self" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04"])
def test_damaged_prompts_are_named(tmp_path, content, caplog):
    record = make_run(tmp_path, MadeRun())
    (record.path / store.PROMPTS).write_bytes(content)
    assert "Two prompts" not in write_report(record, tmp_path / "report.html").read_text()
    assert f"{record.path / store.PROMPTS}: damaged" in caplog.text


def test_a_pipe_in_the_place_of_prompts_is_named_and_not_waited_for(tmp_path, caplog):
    record = make_run(tmp_path, MadeRun())
    (record.path / store.PROMPTS).unlink(missing_ok=True)
    os.mkfifo(record.path / store.PROMPTS)
    assert "Two prompts" not in write_report(record, tmp_path / "report.html").read_text()
    assert f"{record.path / store.PROMPTS}: damaged" in caplog.text


def test_prompts_that_do_not_fit_together_are_named(tmp_path, caplog):
    record = make_run(tmp_path, MadeRun())
    zeros = np.zeros((2, 16), dtype=int)
    np.savez(record.path / store.PROMPTS, images=zeros, labels=zeros, hidden_factor=zeros[:, 0], factors=zeros)
    assert "Two prompts" not in write_report(record, tmp_path / "report.html").read_text()
    assert "do not fit together" in caplog.text


def test_refusals_are_one_line(tmp_path):
    runs = make_runs(tmp_path, [MadeRun()])
    shutil.copytree(runs[0].path, tmp_path / "copy")
    with pytest.raises(SpecError, match="two runs with seed 0"):
        write_report(tmp_path, tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_report(runs[:1], tmp_path / "file" / "report.html")


def test_a_sweep_over_a_setting_has_a_row_and_a_panel_for_each_value(tmp_path):
    made = [MadeRun(falls=900 / lr, seed=seed, settings={"train.lr": lr}) for lr in (1, 3) for seed in range(2)]
    runs = make_runs(tmp_path, made)
    text = write_report(runs, tmp_path / "report.html").read_text()
    assert "With plain, lr=3, the first of 2 settings, training escaped at step" in text
    assert "train.lr: 1, 3" in text
    assert "Savings against lr=1" in text
    assert text.count("plain, lr=3</figcaption>") == text.count("plain, lr=1</figcaption>") >= 3
    rows = (write_results(runs, tmp_path / "results.csv")).read_text().splitlines()
    assert rows[0].startswith("recipe,strategy,train.lr,seed,steps")
    assert [row.split(",")[:4] for row in rows[1:]] == [["demo", "plain", lr, s] for lr in "13" for s in "01"]


def test_runs_of_several_tasks_are_shown_beside_each_other(tmp_path):
    other = {"task.source": {"kind": "Digits"}}
    runs = make_runs(tmp_path, [MadeRun(falls=600), MadeRun("mixed", falls=300, recipe="digits", settings=other)])
    text = write_report(runs, tmp_path / "report.html").read_text()
    assert "Learning plateaus: demo, digits" in text
    assert "FactorTask over Shapes3D; or FactorTask over Digits" in text
    assert "mixed, recipe=digits" in text
    prompts = text[text.index(">Two prompts<") :]
    assert "mixed, recipe=digits<small>" not in prompts  # its prompts were others
