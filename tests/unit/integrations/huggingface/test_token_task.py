"""Positions of items, labels and units among the tokens, tested against decoding; refusals in words."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tiny_language_models import byte_tokenizer, sentence_piece_tokenizer, word_tokenizer
from unplateau.errors import SpecError
from unplateau.integrations.huggingface import TokenTask
from unplateau.integrations.huggingface.token_task import LETTERS
from unplateau.items.digits import Digits
from unplateau.items.words import Words
from unplateau.tasks.base import Shown
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Batch, TokenPrompts

TASK = FactorTask(source=Words(), n_pairs=6)
WORDS = TASK.source.texts() or ()
LISTS = WordSelection(words=Words(topics=("animal", "food", "plant"), per_topic=8, attributes=("topic",)), n_pairs=1)
TEMPLATES = ["{item} {label}\n", "{item}: {label}, ", " {item} {label}", "Word: {item}\nClass: {label}\n\n"]


def inputs_of(batch: Batch) -> TokenPrompts:
    assert isinstance(batch.inputs, TokenPrompts)
    return batch.inputs


TOKENIZERS = {
    "bytes": byte_tokenizer(WORDS),
    "bytes, special tokens around": byte_tokenizer(WORDS, bos=True),
    "sentence pieces": sentence_piece_tokenizer(WORDS),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_decoding_gives_back_items_and_labels(template: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    tokens = TokenTask(TASK, tokenizer, template)
    batch = tokens.sample(2, batch_size=4, split="test", seed=1)
    inputs, texts = inputs_of(batch), TASK.shown(TASK.sample(2, batch_size=4, split="test", seed=1)).texts
    assert texts is not None
    for row, words in enumerate(texts):
        real = inputs.tokens[row][inputs.mask[row]].tolist()
        assert (real[0] == tokenizer.bos_token_id) == (kind != "bytes")
        for number, word in enumerate(words):
            end, query = int(inputs.known[row, number]), int(inputs.queries[row, number])
            same = (inputs.units[row] == inputs.units[row, end]).nonzero().flatten().tolist()
            assert same == list(range(same[0], end + 1))
            assert tokenizer.decode(real[same[0] : end + 1]).strip() == word
            label = tokens.labels[int(batch.targets[row, number])]
            assert tokenizer.decode([real[query + 1]]).strip() == label
            assert real[query + 1] == tokens.label_tokens[int(batch.targets[row, number])]
        text = tokens.text(TASK.sample(2, batch_size=4, split="test", seed=1), row)
        assert text.strip().startswith(tokenizer.decode(real).replace("<s>", "").strip())


def test_padding_is_on_the_right_and_every_row_ends_with_its_last_label() -> None:
    inputs = inputs_of(TokenTask(TASK, byte_tokenizer(WORDS)).sample(0, batch_size=8))
    lengths = inputs.mask.sum(1)
    assert len(set(lengths.tolist())) > 1
    assert torch.equal(inputs.mask, torch.arange(inputs.tokens.shape[1]) < lengths[:, None])
    assert torch.equal(inputs.queries[:, -1] + 2, lengths)


def test_what_the_task_knows_stays() -> None:
    tokens = TokenTask(TASK, byte_tokenizer(WORDS))
    ours, theirs = tokens.sample(5, batch_size=3, seed=2), TASK.sample(5, batch_size=3, seed=2)
    for name in ("targets", "factors", "hidden_factor", "item_index"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert tokens.shape == TASK.shape


def test_words_of_several_tokens_are_reported() -> None:
    whole, split = TokenTask(TASK, word_tokenizer([*WORDS, *"ABCD"])), TokenTask(TASK, byte_tokenizer([], size=300))
    assert whole.split_items == ()
    assert len(split.split_items) == split.n_items_seen == whole.n_items_seen > 100


def test_words_of_a_list_have_positions_of_their_own() -> None:
    task = WordSelection()
    tokens = TokenTask(task, byte_tokenizer(task.words.texts(), size=30_000), " {item} :{label}\n", labels=None)
    batch = tokens.sample(0, batch_size=2)
    inputs, texts = inputs_of(batch), task.shown(task.sample(0, batch_size=2)).texts
    assert inputs.known.shape == batch.item_index.shape
    words = ", ".join(texts[0]).split(", ")
    for word, end in zip(words, inputs.known[0].tolist(), strict=True):
        assert word.endswith(tokens.tokenizer.decode([int(inputs.tokens[0, end])]).strip())


def test_cut_item_sees_one_word_of_a_list_where_every_word_has_factors() -> None:
    tokens = TokenTask(LISTS, byte_tokenizer([], size=300), " {item} :{label}\n", LETTERS[:24])
    inputs, texts = inputs_of(tokens.sample(0, batch_size=2)), LISTS.shown(LISTS.sample(0, batch_size=2)).texts
    assert tokens.split_items
    for row, lists in enumerate(texts):
        words = ", ".join(lists).split(", ")
        for word, end in zip(words, inputs.known[row].tolist(), strict=True):
            same = (inputs.units[row] == inputs.units[row, end]).nonzero().flatten().tolist()
            assert same == list(range(same[0], end + 1))
            assert tokens.tokenizer.decode(inputs.tokens[row, same]).strip() == word


@pytest.mark.parametrize("n_mappings", [1, 3])
def test_cue_that_tells_something_is_not_dropped_in_silence(n_mappings: int) -> None:
    with pytest.raises(SpecError, match=r"^WordSelection: its prompts begin with a cue that says what they hide.*$"):
        TokenTask(WordSelection(n_mappings=n_mappings), BYTES)


def test_word_with_a_comma_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Shown(texts=[["horse, cat, dog, hot"]] * 128, labels=LISTS.words.texts())
    monkeypatch.setattr(WordSelection, "shown", lambda *_: broken)
    with pytest.raises(SpecError, match="4 words instead of 3; a comma and a space stand between the words"):
        TokenTask(LISTS, byte_tokenizer(), "{item}:{label}\n", LETTERS[:24])


def test_more_labels_than_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    many = dataclasses.replace(TASK.shape, n_labels=30)
    monkeypatch.setattr(FactorTask, "shape", property(lambda _: many))
    with pytest.raises(SpecError, match=r"^this task has 30 labels, .*name them with labels=\.\.\.$"):
        TokenTask(TASK, BYTES)


BYTES = byte_tokenizer(WORDS)


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (["A", "B", "C", "zebra"], ("label 'zebra' is split into", "'z", "one token")),
        (["A", "B", "C", "A"], ("labels 'A' and 'A' are the same token",)),
        (["A", "B", "C"], ("3 given for the 4 labels",)),
        (["A", "B", " ", "C"], ("must not be empty",)),
    ],
)
def test_labels_that_cannot_be_asked_for(labels: list[str], parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as refused:
        TokenTask(TASK, BYTES, labels=labels)
    assert all(part in str(refused.value) for part in parts)
    assert "\n" not in str(refused.value)


def test_label_unknown_to_the_tokenizer() -> None:
    with pytest.raises(SpecError, match="label 'B' is not known"):
        TokenTask(TASK, word_tokenizer([*WORDS, "A"]))


def test_item_unknown_to_the_tokenizer() -> None:
    with pytest.raises(SpecError, match="does not know"):
        TokenTask(TASK, word_tokenizer("ABCD"))


@pytest.mark.parametrize("template", ["{item}", "{label} {item}", "{item}{label}", "{item} {label} {label}", ""])
def test_template_that_writes_no_pair(template: str) -> None:
    with pytest.raises(SpecError, match=r"\{item\} and then \{label\}"):
        TokenTask(TASK, BYTES, template)


def test_token_that_belongs_to_two_things() -> None:
    with pytest.raises(SpecError, match="shares a token"):
        TokenTask(TASK, word_tokenizer([*WORDS, *(f"{word}->A" for word in WORDS), *"ABCD"]), "{item}->{label} ")


def test_prompt_longer_than_the_model_can_read() -> None:
    tokenizer = word_tokenizer([*WORDS, *"ABCD"])
    TokenTask(TASK, tokenizer, max_positions=12)
    with pytest.raises(SpecError, match="6 pairs takes 12 positions, the model has 11: set n_pairs to at most 5"):
        TokenTask(TASK, tokenizer, max_positions=11)
    TokenTask(TASK.model_copy(update={"n_pairs": 5}), tokenizer, max_positions=11)
    with pytest.raises(SpecError, match="not one pair fits"):
        TokenTask(TASK, tokenizer, max_positions=1)


def test_items_without_texts() -> None:
    with pytest.raises(SpecError, match="its items are no texts"):
        TokenTask(FactorTask(source=Digits(), n_pairs=4), BYTES)
