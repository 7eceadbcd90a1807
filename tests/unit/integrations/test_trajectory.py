"""Revisions in order, rows that are measured once, and plateaus of the accuracy with the scores at their ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_language_models import saved, tiny_model, word_tokenizer
from unplateau.errors import SpecError
from unplateau.integrations import trajectory as along
from unplateau.integrations.huggingface import load_decoder
from unplateau.integrations.scores import icl_accuracy
from unplateau.items.words import Words
from unplateau.probe import probe_components
from unplateau.tasks.factors import FactorTask

TASK = FactorTask(source=Words(attributes=("topic", "initial")), hidden=("initial",), n_pairs=4)
TOKENIZER = word_tokenizer([*(TASK.source.texts() or ()), *"ABCD"])
SIZES: dict[str, Any] = {"n_train": 128, "n_test": 64, "n_prompts": 8}
MEASUREMENT = along.Measurement(task=TASK, **SIZES)


def revisions(folder: Path, steps: tuple[int, ...] = (10, 2, 0)) -> Path:
    """Random models; the tokenizer is beside them, as trainers may leave it."""
    for step in steps:
        saved(folder / f"step{step}", tiny_model("gpt2", seed=step, vocab_size=len(TOKENIZER)))
    TOKENIZER.save_pretrained(folder)
    (folder / "runs").mkdir()
    return folder


def measured(folder: Path, out: Path, names: tuple[str, ...] = ("all",), **changes: Any) -> list[dict[str, Any]]:
    measurement = along.Measurement(**{"task": TASK, **SIZES, **changes})
    found = along.find_revisions(str(folder), names)
    return list(along.measure_revisions(str(folder), found, measurement, out=out))


@pytest.mark.parametrize(
    ("name", "step"),
    [("step0", 0), ("checkpoint-1500", 1500), ("step_1,000", 1000), ("main-000512", 512), ("7", 7), ("v2-step30", 30)],
)
def test_step_in_a_name(name: str, step: int) -> None:
    assert along.step_of(name) == step


def test_name_without_a_step() -> None:
    with pytest.raises(SpecError, match="revision 'main': no step"):
        along.step_of("main")


def test_revisions_are_in_numeric_order(tmp_path: Path) -> None:
    for name in ("checkpoint-900", "checkpoint-10000", "checkpoint-20", "runs", "notes.txt1"):
        (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).touch()
    assert [one.step for one in along.find_revisions(str(tmp_path), ["all"])] == [20, 900, 10000]
    assert [one.step for one in along.find_revisions("someone/model", ["step9", "step1"])] == [1, 9]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["checkpoint-3"], "checkpoint-3: no such folder"),
        (["all", "x"], "no revisions given"),
        ([], "no revisions given"),
    ],
)
def test_revisions_that_are_not_there(tmp_path: Path, names: list[str], part: str) -> None:
    with pytest.raises(SpecError, match=part):
        along.find_revisions(str(tmp_path), names)


def test_all_of_what_is_no_folder_and_two_of_one_step(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such folder"):
        along.find_revisions("someone/model", ["all"])
    for name in ("step5", "again5"):
        (tmp_path / name).mkdir()
    with pytest.raises(SpecError, match="two revisions of step 5"):
        along.find_revisions(str(tmp_path), ["all"])


def test_rows_are_what_the_pieces_measure(tmp_path: Path) -> None:
    folder = revisions(tmp_path / "model", (3,))
    row = measured(folder, tmp_path / "rows.jsonl")[0]
    TOKENIZER.save_pretrained(folder / "step3")
    decoder, tokens = load_decoder(folder / "step3", TASK)
    found = icl_accuracy(decoder, tokens, 8)
    assert row["icl"]["accuracy"] == found.accuracy
    scores = probe_components(decoder, tokens, n_train=128, n_test=64)
    asked = [score for score in scores if score.factor == "initial"]
    assert row["weights_score"] == pytest.approx([score.accuracy for score in asked])
    assert row["weights_control"] == pytest.approx([score.control_accuracy for score in asked])
    assert row["weights_chance"] == asked[0].chance
    assert set(row["weights_by_factor"]) == {"topic", "initial"}
    assert (row["layers"], row["cut"], row["step"]) == ([0, 1, 2], "self", 3)


def test_what_is_in_the_file_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = revisions(tmp_path / "model"), tmp_path / "deep" / "rows.jsonl"
    loaded: list[str] = []
    own = along.load_language_model

    def load(where: Any, **how: Any) -> Any:
        loaded.append(Path(where).name)
        return own(where, **how)

    monkeypatch.setattr(along, "load_language_model", load)
    measured(folder, out, ("step2",))
    with out.open("a") as file:
        file.write('{"step": 99, "cut o')  # a crash in the middle of a row
    rows = measured(folder, out)
    assert loaded == ["step2", "step0", "step10"]
    assert [row["step"] for row in rows] == [0, 2, 10]
    assert measured(folder, out) == rows
    assert len(loaded) == 3
    assert sorted(map(json.loads, out.read_text().splitlines()), key=lambda row: row["step"]) == rows
    measured(folder, out, ("step2",), cut="item", layer=1)  # other settings
    saved(folder / "step0", tiny_model("gpt2", seed=77, vocab_size=len(TOKENIZER)))  # another model of that name
    assert measured(folder, out)[0]["icl"] != rows[0]["icl"]
    assert loaded[3:] == ["step2", "step0"]


def test_every_revision_is_asked_the_same(tmp_path: Path) -> None:
    """The same weights under two steps give the same row, and no global random numbers are taken."""
    folder = tmp_path / "model"
    for step in (1, 2):
        saved(folder / f"step{step}", tiny_model("gpt2", vocab_size=len(TOKENIZER)), TOKENIZER)
    torch.manual_seed(1)
    one, other = measured(folder, tmp_path / "rows.jsonl")
    differing = {"step", "revision", "digest"}
    assert {name for name in one if one[name] != other[name]} == differing


def row(step: int, accuracy: float, score: float) -> dict[str, Any]:
    icl = {"accuracy": accuracy, "no_context_accuracy": 0.25, "bayes_accuracy": 0.8}
    return {"step": step, "icl": icl, "layers": [0, 1], "weights_score": [0.2, score]}


def test_plateau_carries_the_weights_scores_of_its_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = (0.004 * torch.randn(30, generator=generator)).tolist()
    accuracy = [0.25 if step < 15 else min(0.8, 0.25 + 0.11 * (step - 14)) for step in range(30)]
    rows = [row(100 * step, accuracy[step] + noise[step], 0.3 + 0.02 * step) for step in range(30)]
    found = along.accuracy_plateaus(rows)
    assert len(found) == 1
    assert found[0].plateau.ended
    assert found[0].plateau.end == pytest.approx(1400, abs=150)
    assert found[0].layer == 1
    start, end = found[0].weights_score
    assert start == pytest.approx(0.3, abs=0.05)
    assert end == pytest.approx(0.58, abs=0.04)
    json.dumps(found[0].as_dict(), allow_nan=False)


def test_layer_that_is_shown_is_the_best_one_and_not_the_embedding() -> None:
    last = {"layers": [0, 1, 2], "weights_score": [1.0, 0.4, 0.9], "context_score": [0.3, 0.6, 0.3]}
    assert along.best_layer([last], "weights") == 2
    assert along.best_layer([last], "context") == 1
    assert along.best_layer([{"layers": [0], "weights_score": [0.5]}], "weights") == 0


def test_few_revisions_have_no_plateau() -> None:
    assert along.accuracy_plateaus([row(0, 0.25, 0.3)]) == []


def test_weights_that_come_again_are_named_and_left_out_of_the_curve(tmp_path: Path) -> None:
    """As in suites of checkpoints where some steps serve the final weights."""
    folder = tmp_path / "model"
    for step, seed in ((1, 9), (2, 2), (3, 9), (4, 4), (9, 9)):
        saved(folder / f"step{step}", tiny_model("gpt2", seed=seed, vocab_size=len(TOKENIZER)), TOKENIZER)
    rows = along.mark_repeats(measured(folder, tmp_path / "rows.jsonl"))
    assert [row.get("repeats") for row in rows] == ["step9", None, "step9", None, None]
    assert [one["step"] for one in along.without_repeats(rows)] == [2, 4, 9]
    assert rows[0]["icl"] == rows[4]["icl"]
    assert along.mark_repeats(rows) == rows
    again = along.mark_repeats(measured(folder, tmp_path / "rows.jsonl"))  # from the file
    assert again == rows


def test_one_tensor_that_differs_is_another_model() -> None:
    one, other = tiny_model("gpt2"), tiny_model("gpt2")
    assert along.weights_digest(one) == along.weights_digest(other)
    with torch.no_grad():
        other.transformer.ln_f.bias[0] += 1e-7
    assert along.weights_digest(one) != along.weights_digest(other)


def test_plateaus_are_those_of_the_rows_that_are_no_repeats() -> None:
    """The final accuracy under early steps would cut a plateau in two."""
    generator = torch.Generator().manual_seed(0)
    noise = (0.004 * torch.randn(30, generator=generator)).tolist()
    levels = [0.25 if step < 15 else min(0.8, 0.25 + 0.11 * (step - 14)) for step in range(30)]
    rows = [row(100 * step, level + noise[step], 0.5) for step, level in enumerate(levels)]
    rows = [{**one, "weights": str(one["step"]), "revision": f"step{one['step']}"} for one in rows]
    served = [{**one, "icl": rows[-1]["icl"], "weights": "2900"} if at % 4 == 2 else one for at, one in enumerate(rows)]
    found = along.accuracy_plateaus(along.mark_repeats(served))
    assert found == along.accuracy_plateaus([one for at, one in enumerate(rows) if at % 4 != 2])
    assert found[0].plateau.ended
    assert found != along.accuracy_plateaus(served)


def test_rows_of_before_weights_were_compared_are_measured_again(tmp_path: Path) -> None:
    folder, out = revisions(tmp_path / "model", (3,)), tmp_path / "rows.jsonl"
    (first,) = measured(folder, out)
    old = {name: value for name, value in first.items() if name != "weights"}
    out.write_text(json.dumps(old) + "\n")
    assert measured(folder, out) == [first]


@pytest.mark.filterwarnings("ignore")
def test_adapters_of_a_training_are_its_revisions(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = saved(tmp_path / "base", tiny_model("gpt2", vocab_size=len(TOKENIZER)), TOKENIZER)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True
    )
    for step in (1, 2):
        model = tiny_model("gpt2", vocab_size=len(TOKENIZER))
        model.name_or_path = str(base)
        torch.manual_seed(step)
        peft.get_peft_model(model, config).save_pretrained(tmp_path / "run" / f"checkpoint-{step}")
    rows = measured(tmp_path / "run", tmp_path / "rows.jsonl")
    assert [one["step"] for one in rows] == [1, 2]
    assert rows[0]["weights"] != rows[1]["weights"]
    assert rows[0]["weights_score"] != rows[1]["weights_score"]
