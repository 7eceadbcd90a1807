"""Words and their attributes: laws of a lexicon, the shipped words, users' files."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.data.lexicon import (
    Attribute,
    Entry,
    Lexicon,
    grouped,
    lexicon_from_file,
    lexicon_of,
    pluralised,
    shipped_lexicon,
)
from unplateau.errors import DataError, SpecError

NOUNS = ("animal", "food", "artifact", "person", "body", "plant")
ALL = (*NOUNS, "action", "quality")


def check_laws(lexicon: Lexicon) -> None:
    assert len(set(lexicon.words)) == len(lexicon.words)
    assert len({attribute.name for attribute in lexicon.attributes}) == len(lexicon.attributes)
    for attribute in lexicon.attributes:
        assert len(attribute.of) == len(lexicon.words)
        assert set(attribute.of) == set(range(len(attribute.values)))
        assert len(set(attribute.values)) == len(attribute.values) > 1
    assert hash(lexicon) == hash(Lexicon(tuple(word for word in lexicon.words), lexicon.attributes))


def values_of(lexicon: Lexicon, name: str) -> dict[str, str]:
    attribute = lexicon.attribute(name)
    return dict(zip(lexicon.words, (attribute.values[index] for index in attribute.of), strict=True))


@pytest.mark.parametrize("plurals", [False, True])
@pytest.mark.parametrize("topics", [("animal", "food", "artifact", "person"), NOUNS, ALL, ("animal", "action")])
def test_shipped_words_obey_the_laws(topics: tuple[str, ...], plurals: bool) -> None:
    lexicon = shipped_lexicon(topics, plurals=plurals)
    check_laws(lexicon)
    assert all(word.isascii() and word.islower() and word.isalpha() and 3 <= len(word) <= 12 for word in lexicon.words)
    assert len(set(Counter(lexicon.attribute("topic").of).values())) == 1, "topics are equally large"


def test_shipped_topics_are_large_enough() -> None:
    for topics, least in ((NOUNS[:4], 110), (NOUNS, 80), (("action", "quality"), 60)):
        assert len(shipped_lexicon(topics).words) >= least * len(topics)


def test_attributes_say_what_the_words_are() -> None:
    lexicon = shipped_lexicon(("animal", "action", "quality"), 60)
    assert [attribute.name for attribute in lexicon.attributes] == ["topic", "initial", "length", "part of speech"]
    assert values_of(lexicon, "part of speech")["dog"] == "noun"
    for word, value in values_of(lexicon, "initial").items():
        assert value[0] <= word[0] <= value[-1]
    for word, value in values_of(lexicon, "length").items():
        low, _, high = value.removesuffix(" letters").partition("-")
        assert int(low) <= len(word) <= int(high or low)


def test_half_of_the_nouns_stand_in_the_plural() -> None:
    lexicon = shipped_lexicon(("animal", "body"), 80, plurals=True)
    number, topic = values_of(lexicon, "number"), values_of(lexicon, "topic")
    shares = [sum(number[w] == "plural" for w in lexicon.words if topic[w] == name) / 80 for name in ("animal", "body")]
    assert all(0.4 < share <= 0.5 for share in shares)
    singular = set(shipped_lexicon(("animal", "body"), 80).words)
    assert {word for word in lexicon.words if number[word] == "singular"} < singular
    assert {"number"} == {a.name for a in lexicon.attributes} - {a.name for a in shipped_lexicon(NOUNS).attributes}


def test_a_plural_that_is_another_word_is_not_used() -> None:
    entries = [Entry("arm", "x", plural="arms"), Entry("oat", "x", plural="arm"), Entry("ear", "x", plural="ears")]
    assert [entry.word for entry in pluralised([entries[0], entries[1], entries[2]])] == ["arm", "oat", "ears"]


@pytest.mark.parametrize(
    ("topics", "per_topic", "message"),
    [
        (("animals",), None, "unknown topic 'animals'; did you mean 'animal'"),
        (("animal", "animal"), None, "topics: name each topic once"),
        ((), None, "at least one"),
        (("animal",), 5000, r"per_topic = 5000: the shipped lexicon has \d+ words of topic 'animal'"),
        (("animal",), 0, "per_topic = 0"),
    ],
)
def test_wrong_choices(topics: tuple[str, ...], per_topic: int | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        shipped_lexicon(topics, per_topic)


def test_an_unknown_attribute() -> None:
    with pytest.raises(SpecError, match="unknown attribute 'topics'; did you mean 'topic'"):
        shipped_lexicon().attribute("topics")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 5))
def test_groups_are_the_most_even_ranges(keys: list[int], n_groups: int) -> None:
    attribute = grouped("x", keys, lambda low, high: f"{low}-{high}", n_groups)
    count = Counter(keys)
    ordered = sorted(count)
    n = min(n_groups, len(ordered))
    assert len(attribute.values) == n
    pairs = sorted(zip(keys, attribute.of, strict=True))
    assert [group for _, group in pairs] == sorted(group for _, group in pairs), "groups follow the order of the keys"
    assert len(set(pairs)) == len(ordered), "equal keys are in one group"
    best = min(
        sum(sum(count[key] for key in ordered[a:b]) ** 2 for a, b in itertools.pairwise((0, *cuts, len(ordered))))
        for cuts in itertools.combinations(range(1, len(ordered)), n - 1)
    )
    assert sum(size**2 for size in Counter(attribute.of).values()) == best


def test_frequency_is_an_attribute_where_it_is_known() -> None:
    entries = [Entry(word, topic, zipf=zipf) for word, topic, zipf in (("ant", "a", 3.5), ("bee", "b", 4.0))]
    assert lexicon_of(entries).attributes[-1] == Attribute("frequency", ("Zipf 3.50-3.50", "Zipf 4.00-4.00"), (0, 1))


def test_users_words(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text(
        'word,colour,"kind, of thing"\nSky,blue,"big, far"\ngrass,green,small\nsea,blue,small\n', encoding="utf-8-sig"
    )
    lexicon = lexicon_from_file(path)
    check_laws(lexicon)
    assert lexicon.words == ("Sky", "grass", "sea")
    assert lexicon.attributes[0] == Attribute("colour", ("blue", "green"), (0, 1, 0))
    assert lexicon.attribute("kind, of thing").values == ("big, far", "small")
    tabs = tmp_path / "words.tsv"
    tabs.write_text("colour\tword\nblue\tsky\n\ngreen\tgrass\n")
    assert lexicon_from_file(str(tabs)).words == ("sky", "grass")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "w.csv: the file is empty"),
        (b" \n\n", "w.csv: the file is empty"),
        (b"word,colour\n", "w.csv: no rows below the names of the columns"),
        (b"wrod,colour\nsky,blue\n", "w.csv: no column 'word'; did you mean 'wrod'"),
        (b"word,colour\nsky,blue\nsea,green\nsky,green\n", "w.csv: line 4: 'sky' is in line 2 already"),
        (b"word,colour\nsky,blue\nsea,blue\n", "w.csv: 'colour' is 'blue' for all words"),
        (b"word\nsky\nsea\n", "w.csv: no attributes"),
        (b"word,colour\nsky,blue\nsea,\n", "w.csv: line 3: 'colour' is empty"),
        (b"word,colour\nsky,blue\nsea\n", "w.csv: line 3 has 1 cells, the first line has 2"),
        (b"word,word\nsky,blue\n", "w.csv: two columns have the same name"),
        (
            b"word,colour\nsky,bl\xfce\n",
            r"w.csv: not UTF-8 at byte 18 \(0xfc\); convert it: iconv -f CP1252 -t UTF-8 w.csv",
        ),
        ("word,colour\n".encode("utf-16"), "w.csv: is UTF-16, not UTF-8"),
        (b"word,col\0our\n", r"w.csv: not a text file \(a zero byte at 8\)"),
        (b'word,colour\n"sky,blue\n', "w.csv: line 2: "),
    ],
)
def test_wrong_files_are_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        lexicon_from_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.csv: cannot be read"):
        lexicon_from_file(tmp_path / "nowhere.csv")
