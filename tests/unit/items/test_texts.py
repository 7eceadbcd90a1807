"""Sentences as items: vectors that depend on train texts only, and pieces that spell the text."""

from pathlib import Path

import pytest
import torch

from unplateau.config import parse
from unplateau.data.subwords import train_subwords
from unplateau.errors import DataError, SpecError
from unplateau.items.texts import VECTOR_SCALE, LabelledText
from unplateau.tasks.factors import FactorTask


def test_vectors_are_standardised_and_tell_classes_of_held_out_texts() -> None:
    source = LabelledText(width=32)
    train, test = source.split("train"), source.split("test")
    vectors = source.vectors(torch.arange(len(source.texts())))
    torch.testing.assert_close(vectors[train].std(0, correction=0), torch.full((32,), VECTOR_SCALE), atol=1e-4, rtol=0)
    assert vectors[train].mean(0).abs().max() < 1e-4
    labels = source.factors()[:, 0]
    centres = torch.stack([vectors[train][labels[train] == label].mean(0) for label in labels.unique()])
    nearest = torch.cdist(vectors[test], centres).argmin(1)
    chance = labels[test].bincount().max() / len(test)
    assert (nearest == labels[test]).float().mean() > chance + 0.1


def test_held_out_texts_change_no_train_vector(tmp_path: Path) -> None:
    source = LabelledText()
    test = set(source.split("test").tolist())
    names = source.corpus_texts().label_names
    rows = [
        f"{'something else entirely ' + str(item) if item in test else text}\t{names[label]}"
        for item, (text, label) in enumerate(zip(source.texts(), source.factors()[:, 0].tolist(), strict=True))
    ]
    paths = [tmp_path / "same.tsv", tmp_path / "changed.tsv"]
    same = [f"{text}\t{row.split(chr(9))[1]}" for text, row in zip(source.texts(), rows, strict=True)]
    for path, lines in zip(paths, (same, rows), strict=True):
        path.write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    one, other = (LabelledText(corpus=str(path)) for path in paths)
    train = source.split("train")
    assert torch.equal(one.vectors(train), other.vectors(train))


def test_pieces_end_at_the_last_position_and_spell_the_text() -> None:
    source = LabelledText(written="pieces", most_pieces=20, n_pieces=800)
    tokens = source.tokens(torch.arange(len(source.texts())))
    assert tokens.shape[1:] == (20, 1)
    assert bool((tokens[:, -1, 0] > 0).all())
    bag = source.model_copy(update={"written": "bag"})
    assert torch.equal(bag.tokens(torch.arange(len(tokens)))[:, 0], tokens[..., 0])
    texts = source.texts()
    pieces = train_subwords([texts[item] for item in source.split("train").tolist()], 800)
    assert source.form.vocabulary == pieces.size
    for item in source.split("train").tolist()[:40]:
        written = [token - 1 for token in tokens[item, :, 0].tolist() if token]
        assert texts[item].startswith(pieces.decode(written))


def test_texts_are_cut_and_spread_over_the_corpus() -> None:
    source = LabelledText(n_words=4, per_class=10)
    assert max(len(text.split()) for text in source.texts()) == 4
    assert source.factors()[:, 0].bincount().unique().tolist() == [10]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"corpus": "shiped"}, "did you mean 'shipped'"),
        ({"corpus": "no/such/file.csv"}, "no/such/file.csv"),
        ({"classes": ("no such class", "sport")}, "unknown class 'no such class'"),
        ({"per_class": 10_000}, "has .* texts, 10000 needed"),
        ({"classes": ()}, "two or more"),
        ({"classes": ("sport",)}, "two or more"),
        ({"classes": ("sport", "sport")}, "none twice"),
        ({"attributes": ("length",), "n_words": 1}, "the same for all texts"),
    ],
)
def test_wrong_input_is_one_line(data: dict[str, object], message: str) -> None:
    with pytest.raises((DataError, SpecError, ValueError), match=message) as caught:
        parse(LabelledText, data).check()
    assert "\n" not in str(caught.value)


def test_more_components_than_texts_are_refused() -> None:
    with pytest.raises(SpecError, match="width 5000: must be below"):
        LabelledText(width=5000).vectors(torch.tensor([0]))
    with pytest.raises(SpecError, match="twice"):
        LabelledText(attributes=("class", "class"))


def test_a_text_of_two_classes_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "shared.csv"
    rows = [f"text number {number},{'ab'[number % 2]}" for number in range(40)]
    path.write_text("\n".join(["text,label", *rows, "both of them,a", "both of them,b", "text number 0,a"]))
    texts = LabelledText(corpus=str(path)).texts()
    assert len(texts) == len(set(texts)) == 40
    assert "both of them" not in texts


def test_fewer_texts_than_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="n_pairs 100 is more than the"):
        FactorTask(source=LabelledText(), n_pairs=100).check()
