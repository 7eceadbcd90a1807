"""What ``same.py`` runs inside other people's training loops: loss terms, scores and curricula on tokens.

What enters: nothing. What leaves: lines that hold every bit of the results. Modules that have moved are looked for in
their new place and then in the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, TrainingArguments

import unplateau as up
from unplateau.errors import UnplateauError
from unplateau.integrations.annotation import TokenClasses
from unplateau.integrations.scores import TaskScores, TokenScores
from unplateau.integrations.tokens import TokenStrategy

VOCABULARY, STEPS = 24, 20
MOVES = {
    "datasets": ("unplateau.integrations.datasets", "unplateau.integrations.mixing"),
    "token_task": (
        "unplateau.integrations.huggingface.token_task",
        "unplateau.integrations.huggingface.prompts",
    ),
    "trainer": ("unplateau.integrations.trainer", "unplateau.integrations.huggingface.trainer"),
}
"""New and old place of what has moved."""
TYPES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
TABLE = torch.arange(VOCABULARY) % 3
ANNOTATIONS: dict[str, Any] = {
    "table": TABLE,
    "table with holes": torch.where(torch.arange(VOCABULARY) % 5 == 0, -100, TABLE),
    "key": TokenClasses("classes", 4),
    "function": TokenClasses(lambda batch: (batch["input_ids"] + 1) % 4, 4),
    "tokens": TokenClasses("tokens", None),
    "identity": "identity",
    "next": "next",
    "several": {"class": TABLE, "kind.of": TokenClasses("classes", 4), "token": "identity", "next": "next"},
}
STRATEGIES = (
    up.Strategy(),
    up.Strategy(up.ComponentLoss()),
    up.Strategy(up.ComponentLoss(layer=1, rows=2, weight=0.5)),
    up.Strategy(up.ComponentLoss(items=5, cut="item")),
    up.Strategy(up.ComponentLoss(cut="identity", layer=1), up.ComponentLoss(cut="zero")),
    up.Strategy(up.WeightsLoss()),
    up.Strategy(up.WeightsLoss(weight=0.2), up.ComponentLoss(layer=1, items=30)),
    up.Strategy(up.ContextLoss()),
)


def moved(name: str) -> Any:
    """The module that has this name in ``MOVES``. Another missing module is an error."""
    new, old = MOVES[name]
    try:
        return import_module(new)
    except ModuleNotFoundError as error:
        if error.name != new:
            raise
        return import_module(old)


def new_model(model_type: str = "gpt2", *, seed: int = 0, vocabulary: int = VOCABULARY) -> Any:
    """A small model with random weights; GPT-2 with dropout."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64} if model_type == "gpt2" else SIZES
    config = AutoConfig.for_model(model_type, vocab_size=vocabulary, bos_token_id=None, eos_token_id=None, **sizes)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return model.train()


def batches() -> list[dict[str, Tensor]]:
    """Three batches, the second one padded, with classes and tokens to predict."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (3, 4, 10), generator=generator)
    mask = torch.ones_like(tokens)
    mask[1, 2, 6:] = 0
    given = {
        "input_ids": tokens,
        "attention_mask": mask,
        "labels": torch.where(mask.bool(), tokens, -100),
        "classes": torch.where(tokens % 7 == 0, -100, tokens.flip(2) % 4),
        "tokens": torch.where(tokens % 6 == 0, -100, tokens.roll(1, 2)),
    }
    return [{key: value[number] for key, value in given.items()} for number in range(3)]


def trained(model: Any, helper: Any, steps: int = STEPS) -> Iterator[str]:
    """A plain loop: the losses of each step, and what the parameters are at the end."""
    torch.manual_seed(5)
    optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], lr=1e-2)
    for step in range(steps):
        batch = batches()[step % 3]
        loss = model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss
        extra = helper(batch)
        (loss + extra).backward()
        optimiser.step()
        optimiser.zero_grad()
        both = (float(torch.as_tensor(one).detach()).hex() for one in (loss, extra))
        yield f"{step} {' '.join(both)} {exact(helper.last)}"
    yield f"model {digest(model.state_dict())} heads {sorted(helper.state_dict())} {digest(helper.state_dict())}"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Of the names and every bit."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def exact(value: Any) -> Any:
    """JSON values and tensors with all digits."""
    if isinstance(value, Tensor):
        return exact(value.tolist())
    return {name: exact(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def token_losses() -> Iterator[str]:
    """Every annotation with every strategy, or why they do not go together."""
    for (name, annotation), strategy in product(ANNOTATIONS.items(), STRATEGIES):
        yield f"{name}, {strategy.name}"
        model = new_model()
        try:
            helper = TokenStrategy(model, strategy, annotation, seed=3)
            yield f"keys {sorted(helper.batch_keys)} parameters {[name for name, _ in helper.named_parameters()]}"
            yield from trained(model, helper)
            helper.close()
        except UnplateauError as error:
            yield f"{type(error).__name__}: {error}"


def architectures() -> Iterator[str]:
    """Loss terms and scores on every type of model."""
    for model_type in TYPES:
        model = new_model(model_type)
        yield model_type
        with TokenStrategy(model, up.Strategy(up.ComponentLoss(), up.WeightsLoss()), TABLE) as helper:
            yield from trained(model, helper, 5)
        yield from scored(model)


def scored(model: Any) -> Iterator[str]:
    """Rows of ``TokenScores`` under all cuts."""
    for cut in ("self", "item", "identity", "zero"):
        try:
            yield json.dumps(TokenScores(model, batches()[1], {"a": TABLE, "b": ANNOTATIONS["key"]}, cut=cut).measure())
        except UnplateauError as error:
            yield f"{type(error).__name__}: {error}"


def scores() -> Iterator[str]:
    """Rows of ``TokenScores`` and ``TaskScores``."""
    for seed, given in product((0, 1), (batches()[0], batches()[2]["input_ids"])):
        row = TokenScores(new_model(seed=seed), given, ANNOTATIONS["table with holes"], n_examples=9, seed=seed)
        yield json.dumps(row.measure())
    token_task = moved("token_task").TokenTask
    factors = up.FactorTask(source=up.Words(attributes=("initial", "length")), n_pairs=4)
    sentences = up.FactorTask(source=up.LabelledText(n_words=4), n_pairs=2)
    ways = ((factors, one_word_each()), (factors, pairs_of_bytes()), (up.WordSelection(n_pairs=2), one_word_each()))
    for (task, tokenizer), model_type in product((*ways, (sentences, pairs_of_bytes())), ("gpt2", "llama")):
        asked = token_task(task, tokenizer)
        batch = asked.sample(3, batch_size=4, seed=2)
        yield f"{asked.labels} {asked.split_items} {asked.n_items_seen} {asked.text(task.sample(0, batch_size=1))!r}"
        yield digest({"tokens": batch.inputs.tokens, "targets": batch.targets, "items": batch.item_index})
        for cut in ("self", "item"):
            model = new_model(model_type, vocabulary=len(tokenizer))
            yield json.dumps(TaskScores(model, asked, cut=cut, n_prompts=16, seed=1).measure())


def one_word_each() -> PreTrainedTokenizerFast:
    """A token for each of our words and labels."""
    words = ["[UNK]", *dict.fromkeys([*up.Words().texts(), *up.WordSelection().words.texts(), *"ABCDWXYZ,"])]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(",", "isolated")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def pairs_of_bytes(texts: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Byte pairs learnt from our words, as GPT-2 writes them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learning = trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([*[" A B C D E F W X Y Z"] * 100, *up.Words().texts(), *texts], learning)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def save_models(folder: Path) -> None:
    """Nine revisions of a GPT-2, and two other models."""
    words, pieces = one_word_each(), pairs_of_bytes()
    saved = {f"gpt2/step{step}": (new_model(seed=step, vocabulary=len(words)), words) for step in range(9)}
    saved["bytes"] = (new_model(vocabulary=len(pieces)), pieces)
    saved["llama"] = (new_model("llama", vocabulary=len(words)), words)
    for name, (model, tokenizer) in saved.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        for path in (folder / name).iterdir():
            os.utime(path, (0, 0))  # models are told apart by this as well


def trainer() -> Iterator[str]:
    """The Trainer of transformers with terms, a curriculum and scores, in micro-batches."""
    module = moved("trainer")
    generator = torch.Generator().manual_seed(2)
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(VOCABULARY, (40, 8), generator=generator)]
    fixed = [{"input_ids": row, "labels": row} for row in torch.arange(320).view(40, 8) % VOCABULARY]
    common = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_steps": 10, "seed": 4}
    for strategy in (up.Strategy(), up.Strategy(up.Mixed(), up.ComponentLoss(items=4), up.WeightsLoss())):
        out = Path("trainer", strategy.name)
        arguments = TrainingArguments(
            str(out), max_steps=STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=2, logging_steps=2,
            **common,
        )  # fmt: skip
        look = module.UnplateauCallback(lambda model: TokenScores(model, batches()[0], TABLE), every=5)
        given = {"model": new_model(), "args": arguments, "train_dataset": rows, "callbacks": [look]}
        made = module.StrategyTrainer(strategy=strategy, annotation=TABLE, fixed_dataset=fixed, **given)
        made.train()
        yield digest(made.model.state_dict())
        yield (out / "metrics.jsonl").read_text()
        for heads in sorted(out.rglob("unplateau_heads.safetensors")):
            yield f"{heads} {hashlib.sha256(heads.read_bytes()).hexdigest()}"
        for path in [path for path in out.rglob("*") if path.is_file()]:
            path.unlink()


def datasets() -> Iterator[str]:
    """Rows of curricula over two lists, step by step and as a stream."""
    dataset = moved("datasets").CurriculumDataset
    lists = [f"target {n}" for n in range(30)], [f"fixed {n}" for n in range(20)]
    warm_up, mixed = up.WarmUp(steps=7), up.Mixed(fraction=0.3)
    for parts in ((), (warm_up,), (mixed,), (warm_up, mixed), (up.WarmUp(mapping="changing"),)):
        yield up.Strategy(*parts).name
        try:
            made = dataset(up.Strategy(*parts), *lists, batch_size=8, seed=3)
            yield from (f"{step} {made.shares_at(step)} {made.rows_at(step)}" for step in range(30))
            later = dataset(up.Strategy(*parts), *lists, batch_size=8, rows_at_once=2, seed=4, start=5)
            yield str(list(islice(later, 240)))
        except UnplateauError as error:
            yield f"{type(error).__name__}: {error}"
