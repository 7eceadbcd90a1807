"""Words as items: their tokens spell them, their factors are the lexicon's, and only spelt words can be held out."""

from pathlib import Path

import pytest
import torch

from unplateau.config import parse
from unplateau.errors import DataError, SpecError
from unplateau.items.words import Words
from unplateau.tasks.factors import FactorTask


def test_factors_are_the_attributes_of_the_words() -> None:
    source = Words(attributes=("length", "topic"))
    lexicon = source.entries()
    assert source.factor_names == ("length", "topic")
    for word, (length, topic) in zip(source.texts(), source.factors().tolist(), strict=True):
        name = lexicon.attribute("length").values[length]
        low, _, high = name.removesuffix(" letters").partition("-")
        assert int(low) <= len(word) <= int(high or low)
        assert source.topics[topic] in lexicon.attribute("topic").values


def test_a_word_written_as_a_word_is_one_token_and_no_word_is_held_out() -> None:
    source = Words()
    index = torch.arange(len(source.texts()))
    assert torch.equal(source.tokens(index).flatten(), index + 1)
    assert source.form.vocabulary == len(index)
    assert torch.equal(source.split("train"), index)
    assert 0 < len(source.split("test")) < len(index)


@pytest.mark.parametrize("written", ["characters", "pieces"])
def test_spelt_words_differ_and_share_tokens(written: str) -> None:
    source = parse(Words, {"written": written})
    tokens = source.tokens(torch.arange(len(source.texts())))
    assert len(tokens.unique(dim=0)) == len(tokens)
    assert tokens.max() == source.form.vocabulary
    assert len(tokens[tokens > 0].unique()) < (tokens > 0).sum() / 2
    train, test = source.split("train"), source.split("test")
    assert not set(train.tolist()) & set(test.tolist())
    known = torch.isin(tokens[test], tokens[train])
    assert known.float().mean() > 0.85  # held-out words are written in what the others are written in


def test_characters_tell_letter_and_place() -> None:
    source = Words(written="characters")
    words = source.texts()
    tokens = source.tokens(torch.arange(len(words)))[:, 0]
    for place in (0, 2):
        letters = [word[place] for word in words]
        pairs = set(zip(letters, tokens[:, place].tolist(), strict=True))
        assert len(pairs) == len(set(letters))
    assert not set(tokens[:, 0].tolist()) & set(tokens[:, 1].tolist())
    lengths = (tokens > 0).sum(1).tolist()
    assert lengths == [len(word) for word in words]


def test_a_lexicon_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    rows = [f"w{number}\t{'red' if number % 2 else 'blue'}\t{number % 3}" for number in range(60)]
    path.write_text("\n".join(["word\tcolour\tgroup", *rows]))
    source = Words(lexicon=path, attributes=("colour", "group"))
    assert source.factor_sizes == (2, 3)
    task = FactorTask(source=source, n_pairs=6)
    assert parse(FactorTask, task.model_dump(mode="json")) == task


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"attributes": ("topik",)}, "did you mean 'topic'"),
        ({"attributes": ("topic", "topic")}, "twice"),
        ({"topics": ("animal", "fod")}, "did you mean 'food'"),
        ({"per_topic": 100_000}, "100000"),
        ({"lexicon": "no_such_file.tsv"}, "no_such_file.tsv"),
        ({"lexicon": "wordnt"}, "did you mean 'wordnet'"),
        ({"lexicon": "mine.tsv", "topics": ("a", "b")}, "a file is used whole"),
        ({"topics": ("animal",)}, "two topics or more"),
    ],
)
def test_wrong_input_is_one_line(data: dict[str, object], message: str) -> None:
    with pytest.raises((SpecError, DataError), match=message) as caught:
        parse(Words, data).check()
    assert "\n" not in str(caught.value)


def test_more_pairs_than_held_out_words_are_refused() -> None:
    with pytest.raises(ValueError, match="n_pairs 400 is more than the"):
        FactorTask(source=Words(), n_pairs=400).check()
