"""Our Transformer as transformers' GPT-2: the same logits there, the same weights back."""

import shutil
from pathlib import Path

import pytest
import torch

import unplateau as up
from unplateau.errors import CheckpointError
from unplateau.models.gpt2 import load_gpt2, save_gpt2
from unplateau.tasks.base import Task

transformers = pytest.importorskip("transformers", reason="needs transformers (extra hf)")
TASKS: dict[str, Task] = {
    "vectors": up.FactorTask(source=up.RandomCodes(sizes=(4, 3), width=12), n_pairs=5),
    "words": up.FactorTask(source=up.Words(), n_pairs=4),
    "words as labels": up.WordSelection(n_pairs=3),
    "numbers": up.LinearRegression(n_pairs=5),
}
CONFIG = up.ModelConfig(n_layers=2, width=16, n_heads=4)


def model_of(task: Task, config: up.ModelConfig = CONFIG) -> up.Transformer:
    return up.Transformer(config, task.shape, seed=3).eval()


def loaded(folder: Path) -> torch.nn.Module:
    named = transformers.AutoConfig.from_pretrained(folder).architectures[0]
    model, told = getattr(transformers, named).from_pretrained(folder, output_loading_info=True)
    assert not any(told[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize("name", TASKS)
def test_the_same_logits(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    model, inputs = model_of(task), task.sample(0, batch_size=3).inputs
    theirs = loaded(save_gpt2(model, tmp_path / "gpt2"))
    with torch.no_grad():
        expected = model(inputs).logits
        logits = inputs.at_queries(theirs(inputs_embeds=model.read_in(inputs)).logits)
    if task.shape.labels_are_tokens:
        logits = logits[..., 1 : task.shape.n_labels + 1]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_back_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = model_of(TASKS[name], CONFIG.model_copy(update={"labels_carry_items": name == "vectors"}))
    again = load_gpt2(save_gpt2(model, tmp_path))
    assert again.config == model.config
    assert again.shape == model.shape
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_trained_further_by_transformers(tmp_path: Path) -> None:
    task = TASKS["vectors"]
    model, inputs = model_of(task), task.sample(0, batch_size=3).inputs
    theirs = loaded(save_gpt2(model, tmp_path / "first"))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.01)
    theirs.save_pretrained(tmp_path / "second")
    with pytest.raises(CheckpointError, match="no 'item_embedding"):
        load_gpt2(tmp_path / "second")
    shutil.copy(tmp_path / "first" / "read_in.safetensors", tmp_path / "second")
    again = load_gpt2(tmp_path / "second")
    with torch.no_grad():
        logits = inputs.at_queries(theirs(inputs_embeds=model.read_in(inputs)).logits)
        torch.testing.assert_close(again(inputs).logits, logits, atol=1e-5, rtol=1e-5)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read as a folder of save_gpt2"):
        load_gpt2(tmp_path)
    transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="KeyError: 'unplateau'"):
        load_gpt2(tmp_path)
