"""Language models on the command line: ``probe --task`` and ``trajectory``, and one line for all that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from forked import Python
from tiny_language_models import byte_tokenizer, saved, tiny_model, word_tokenizer
from unplateau.cli.arguments import parse
from unplateau.cli.looking import diagnose, print_scores, probe, trajectory
from unplateau.cli.main import explain, main
from unplateau.data import archive_path, package_named
from unplateau.items.base import ItemSource
from unplateau.items.codes import RandomCodes
from unplateau.items.words import Words
from unplateau.models.transformer import ModelConfig
from unplateau.scores import ProbeScore, Scores
from unplateau.tasks.factors import FactorTask
from unplateau.train.loop import train
from unplateau.train.spec import RunSpec, TrainConfig

TASK = {"kind": "FactorTask", "n_pairs": 4, "source": {"kind": "Words", "attributes": ["initial", "length"]}}
WORDS = Words().texts()
TOKENIZER = word_tokenizer([*WORDS, *"ABCD", *"WXYZ"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a task and two revisions of a model."""
    monkeypatch.chdir(tmp_path)
    Path("words.yaml").write_text(yaml.safe_dump(TASK))
    for step in (0, 8):
        saved(tmp_path / "model" / f"step{step}", tiny_model("gpt2", seed=step, vocab_size=len(TOKENIZER)), TOKENIZER)
    return tmp_path


def run(command: Any, line: str) -> None:
    call = parse(command, command.__name__, line.split())
    assert call is not None
    call()


def refused(command: Any, line: str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (what matters is what the user is told)
        run(command, line)
    failure = explain(caught.value)
    assert failure.exit_code == 2, failure.message
    assert "\n" not in failure.message
    return failure.message


PROBE = "model/step0 --task words.yaml --n-train 64 --n-test 64"


def test_probe_prints_scores_accuracy_and_split_items(place: Path, capsys: Any) -> None:
    run(probe, f"{PROBE} --cut item")
    shown = capsys.readouterr().out
    for part in ("cut item", "chance", "layer 2", "initial", "length", "in-context accuracy", "one token"):
        assert part in shown
    for part in ("initial stands out", "labels are bound", "queries look"):
        assert part in shown


def test_probe_as_json(place: Path, capsys: Any) -> None:
    run(probe, f"{PROBE} --json --component context --labels W,X,Y,Z --template {{item}}\\n{{label}}\\n")
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == ["W", "X", "Y", "Z"]
    assert found["split_items"] == []
    assert {score["component"] for score in found["scores"]} == {"context"}
    assert 0 <= found["icl"]["accuracy"] <= 1


def test_the_mean_of_a_layer_is_the_score_of_reports(capsys: Any) -> None:
    accuracy = {"hue": 0.9, "scale": 0.5, "shape": 0.3}
    cells = [
        ProbeScore(layer, factor, value / (layer + 1), value / 2, 0.2, 64, "weights", "self")
        for layer in range(3)
        for factor, value in accuracy.items()
    ]
    for asked in (["scale", "shape"], ["hue"], [*accuracy]):
        print_scores(cells, asked)
        said, head, *rows = [line for line in capsys.readouterr().out.splitlines() if line.strip(" -─━")]
        assert said == f"mean: over the factors that a prompt may hide ({', '.join(asked)})"
        assert head.split() == [*accuracy, "mean"]
        scores = Scores.of(cells, asked)
        means = [float(row.split()[-1]) for row in rows if row.startswith(("layer", "chance"))]
        assert means == pytest.approx([*(scores.weights_score or ()), scores.weights_chance], abs=0.005)


@pytest.mark.parametrize(("source", "held_out"), [(Words(), False), (RandomCodes(sizes=(4, 4, 4)), True)])
def test_probe_says_what_it_was_not_fitted_to(tmp_path: Path, capsys: Any, source: ItemSource, held_out: bool) -> None:
    task = FactorTask(source=source, hidden=source.factor_names[1:], n_pairs=4)
    config = TrainConfig(steps=2, batch_size=4, probe_every=0, final_prompts=16, probe_prompts=16)
    record = train(
        RunSpec(task=task, model=ModelConfig(n_layers=1, width=16), train=config), out=tmp_path, device="cpu"
    )
    run(probe, f"{record.path} --n-train 64 --n-test 64")
    shown = capsys.readouterr().out
    assert "accuracy of a discriminant probe on items that it was not fitted to" in shown
    assert ("the model has trained on all items" in shown) is not held_out
    assert f"mean: over the factors that a prompt may hide ({', '.join(source.factor_names[1:])})" in shown
    assert all(name in shown for name in source.factor_names)


def test_the_three_things_alone(place: Path, capsys: Any) -> None:
    run(probe, f"{PROBE} --component three-things")
    assert capsys.readouterr().out.startswith("three things that in-context learning waits for: model/step0, cut self")
    run(probe, f"{PROBE} --component three-things --json")
    kinds = {score["kind"] for score in json.loads(capsys.readouterr().out)["scores"]}
    assert kinds == {"few-shot", "share", "binding", "keep", "look"}


def test_a_language_model_is_diagnosed(place: Path, capsys: Any) -> None:
    run(diagnose, "model/step0 --task words.yaml --n-prompts 64")
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("It predicts worse than who ignores the context, as before a plateau: progress -")
    assert any(line.startswith("What it waits for") for line in told)
    run(diagnose, "model/step0 --task words.yaml --n-prompts 64 --cut item --labels W,X,Y,Z --json")
    assert json.loads(capsys.readouterr().out)["stage"] == "before"
    assert "diagnose: --template and --labels are for language models" in refused(diagnose, "model/step0 --labels A,B")


def test_trajectory_prints_a_table_and_goes_on(place: Path, capsys: Any) -> None:
    line = "model --revisions {} --task words.yaml --n-test 64 --layer {} --out rows.jsonl"
    run(trajectory, line.format("step8", 1))
    run(trajectory, line.format("all", 1))
    shown = capsys.readouterr().out
    assert len(Path("rows.jsonl").read_text().splitlines()) == 2
    for part in (
        "cut self; layer 1",
        "weights score",
        "context score",
        "Bayes-optimal",
        "at least 8 revisions",
    ):
        assert part in shown
    run(trajectory, line.format("step0,step8", 1) + " --json")
    found = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in found["rows"]] == [0, 8]
    assert found["plateaus"] == []


def test_trajectory_names_weights_that_come_again(place: Path, capsys: Any) -> None:
    for step, seed in ((2, 8), (4, 8)):
        folder = place / "model" / f"step{step}"
        saved(folder, tiny_model("gpt2", seed=seed, vocab_size=len(TOKENIZER)), TOKENIZER)
    line = "model --revisions all --task words.yaml --n-test 64 --layer 1 --out rows.jsonl"
    run(trajectory, line)
    shown = capsys.readouterr().out
    assert "left out of the curve: step2, step4 have the weights of step8, tensor by tensor" in shown
    assert "2 (repeated)" in shown
    run(trajectory, line + " --json")
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [one.get("repeats") for one in found] == [None, "step8", "step8", None]


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_probed_in_its_model(place: Path, capsys: Any) -> None:
    peft = pytest.importorskip("peft")
    settings = {"init_lora_weights": False, "fan_in_fan_out": True}
    base = tiny_model("gpt2", vocab_size=len(TOKENIZER))
    base.name_or_path = "model/step0"
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], **settings)
    peft.get_peft_model(base, config).save_pretrained(place / "adapters" / "checkpoint-5")
    found = {}
    for model in ("model/step0", "adapters/checkpoint-5"):
        run(probe, f"{model} --task words.yaml --n-train 64 --n-test 64 --json")
        found[model] = json.loads(capsys.readouterr().out)["scores"]
    own, plain = found["adapters/checkpoint-5"], found["model/step0"]
    assert [one["layer"] for one in own] == [one["layer"] for one in plain]
    assert own != plain
    run(trajectory, "adapters --revisions all --task words.yaml --n-test 64 --layer 1 --out rows.jsonl")
    assert "plateaus need at least 8 revisions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("./nowhere --task words.yaml", ("nowhere", "no such folder")),
        ("model --task words.yaml", ("model", "no config.json")),
        ("model/step0 --task nowhere.yaml", ("nowhere.yaml: cannot be read",)),
        (f"{PROBE} --labels A,B,C", ("labels: 3 given for the 4",)),
        (f"{PROBE} --labels A,B,C,horse!", ("label 'horse!' is not known",)),
        (f"{PROBE} --template {{item}}", ("template", "{label}")),
        (f"{PROBE} --cut selv", ("'selv'", "did you mean 'self'")),
    ],
)
def test_probe_refuses_in_one_line(place: Path, line: str, parts: tuple[str, ...]) -> None:
    message = refused(probe, line)
    assert all(part in message for part in parts), message


def test_split_items_are_counted_and_a_split_label_is_named(place: Path, capsys: Any) -> None:
    tokenizer = byte_tokenizer(WORDS)
    saved(place / "bytes", tiny_model("gpt2", vocab_size=len(tokenizer)), tokenizer)
    run(probe, "bytes --task words.yaml --n-train 64 --n-test 64")
    assert "are several tokens" in capsys.readouterr().out
    message = refused(probe, "bytes --task words.yaml --labels alpha,beta,gamma,delta")
    assert message.startswith("label 'alpha' is split into")


def test_prompt_longer_than_the_positions(place: Path) -> None:
    Path("long.yaml").write_text(yaml.safe_dump({**TASK, "n_pairs": 40}))
    message = refused(probe, "model/step0 --task long.yaml")
    assert message == "a prompt of 40 pairs takes 80 positions, the model has 64: set n_pairs to at most 32"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("- 1", "must hold the keys of a task"),
        ("kind: FactorTusk", "did you mean 'FactorTask'"),
        ("kind: FactorTask\nn_pair: 3", "did you mean 'n_pairs'"),
        ("kind: [", "not a YAML file"),
    ],
)
def test_task_that_is_none(place: Path, content: str, part: str) -> None:
    Path("bad.yaml").write_text(content)
    message = refused(probe, "model/step0 --task bad.yaml")
    assert part in message
    assert "bad.yaml" in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--revisions all --layer two", ("--layer", "'two'")),
        ("--revisions all --layer 9", ("there is no layer 9",)),
        ("--revisions step1", ("step1: no such folder",)),
        ("--revisions latest", ("'latest'", "no step")),
        ("", ("--revisions", "missing")),
    ],
)
def test_trajectory_refuses_in_one_line(place: Path, arguments: str, parts: tuple[str, ...]) -> None:
    message = refused(trajectory, f"model --task words.yaml {arguments}")
    assert all(part in message for part in parts), message


WITHOUT_TRANSFORMERS = """
import sys; sys.modules['transformers'] = None
from unplateau.cli.main import main
sys.exit(main())
"""


def test_probe_of_our_own_runs_needs_no_transformers(python: Python, tmp_path: Path) -> None:
    done = python("-c", WITHOUT_TRANSFORMERS, "probe", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "neither a run directory nor" in done.stderr


def test_missing_transformers_names_the_extra(python: Python, place: Path) -> None:
    done = python("-c", WITHOUT_TRANSFORMERS, "probe", "model/step0", "--task", "words.yaml", cwd=place)
    assert done.returncode == 2
    assert "unplateau[hf]" in done.stderr


def _bert(folder: Path) -> None:
    config = BertConfig(
        vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    saved(folder, BertLMHeadModel(config), TOKENIZER)


def _t5(folder: Path) -> None:
    config = T5Config(vocab_size=len(TOKENIZER), d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    saved(folder, T5ForConditionalGeneration(config), TOKENIZER)


def _bytes(folder: Path) -> None:
    tokenizer = byte_tokenizer(WORDS)
    saved(folder, tiny_model("gpt2", vocab_size=len(tokenizer)), tokenizer)


def _latin(_: Path) -> None:
    Path("task.yaml").write_bytes(b"kind: FactorTask  # caf\xe9\n")


def _corpus(_: Path) -> None:
    source = {"kind": "LabelledText", "corpus": "spam-mails", "per_class": 10}
    Path("task.yaml").write_text(yaml.safe_dump({**TASK, "source": source}))


def _changed_corpus(folder: Path) -> None:
    _corpus(folder)
    archive = archive_path(package_named("spam"))
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"another file")


@pytest.mark.parametrize(
    ("prepare", "line", "part"),
    [
        (_bert, "other --task words.yaml", "bert: not admitted: "),
        (_bert, "other --task words.yaml", "no causal mask"),
        (_t5, "other --task words.yaml", "other: t5 is an encoder-decoder model"),
        (_bytes, "other --task words.yaml --labels alpha,beta,gamma,delta", "label 'alpha' is split into"),
        (_latin, "model/step0 --task task.yaml", "task.yaml: not a YAML file ('utf-8' codec can't decode byte 0xe9"),
        (_corpus, "model/step0 --task task.yaml", "spam is not in the cache; fetch it with: unplateau data get spam"),
        (_changed_corpus, "model/step0 --task task.yaml", "sha256 is not that of"),
    ],
)
def test_exit_code_and_the_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, prepare: Any, line: str, part: str
) -> None:
    monkeypatch.setenv("UNPLATEAU_CACHE", str(place / "cache"))
    prepare(place / "other")
    capfd.readouterr()
    assert main(["probe", *line.split()]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1, shown.err
    assert shown.err.startswith("unplateau: ")
    assert part in shown.err
