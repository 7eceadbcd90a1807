"""Which nouns are taken, on a WordNet of a few words; and the table that is kept."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.data.conftest import Keep, deb, frequency_wheel, packed, tarball, wheel
from unplateau.data import packages, wordnet
from unplateau.data.packages import Package
from unplateau.data.word_tables import MEMBER, unpack, zipf_frequencies
from unplateau.data.wordnet import blocked, candidates, wordnet_lexicon
from unplateau.errors import DataError, SpecError

ANIMAL, ARTIFACT, FOOD = 5, 6, 13
SENSES = {  # lemma as written in the first sense: files of its noun senses
    "dog": (ANIMAL,),
    "cat": (ANIMAL, ARTIFACT),
    "jaguar": (ANIMAL,),
    "seal": (ARTIFACT, ANIMAL, ANIMAL),
    "duck": (ANIMAL, FOOD, FOOD),
    "Rover": (ANIMAL,),
    "ox": (ANIMAL,),
    "hot_dog": (FOOD,),
    "hammer": (ARTIFACT,),
    "kettle": (ARTIFACT,),
    "run": (ARTIFACT,),
    "bread": (FOOD,),
    "moa": (ANIMAL,),
}
USES = {"run": (1, 40), "hammer": (3, 3), "dog": (42, 2), "cat": (0, 0)}
ZIPF = {lemma.lower(): 4.5 for lemma in SENSES} | {"hammer": 5.0, "jaguar": 3.0, "moa": 0.9, "cat": 4.75}
EXPECTED = {"hammer": "artifact", "cat": "animal", "bread": "food", "dog": "animal", "kettle": "artifact"}


def database() -> dict[str, bytes]:
    """data.noun, index.noun and index.sense, laid out like WordNet's."""
    notice = "  1 This software and database is being provided to you  \n"
    data, index, senses = notice, notice, ""
    place = 1740
    for written, files in SENSES.items():
        lemma, places = written.lower(), []
        for number, file in enumerate(files, 1):
            synonyms = f"02 {written} 0 other 0" if number == 1 else f"01 {written} 0"
            data += f"{place:08d} {file:02d} n {synonyms} 001 @ 00001740 n 0000 | said of {lemma} | it  \n"
            senses += (
                f"{lemma}%1:{file:02d}:00:: {place:08d} {number} {USES.get(lemma, (1, 0))[0] if number == 1 else 0}\n"
            )
            places.append(f"{place:08d}")
            place += 100
        senses += f"{lemma}%2:38:00:: 00000001 1 {USES.get(lemma, (1, 0))[1]}\n"
        index += f"{lemma} n {len(files)} 1 @ {len(files)} 0 {' '.join(places)}  \n"
    return {"data.noun": data.encode(), "index.noun": index.encode(), "index.sense": senses.encode()}


@pytest.fixture
def pinned(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Package]:
    """The small archives in the place of those in the table."""
    files = database()
    npm = keep(tarball({f"package/dict/{name}": data for name, data in files.items()}), "wordnet.tgz")
    lines = [line.split() for line in files.pop("index.sense").splitlines()]
    counts = {"cntlist.rev": b"".join(b" ".join((key, number, count)) + b"\n" for key, _, number, count in lines)}
    debian = keep(deb({f"usr/share/wordnet/{name}": data for name, data in (files | counts).items()}), "wordnet.deb")
    small = {
        "wordnet": replace(npm, name="wordnet"),
        "wordnet-base": replace(debian, name="wordnet-base"),
        "wordfreq": replace(keep(frequency_wheel(ZIPF), "wordfreq.whl"), name="wordfreq"),
    }
    monkeypatch.setattr(packages, "PACKAGES", tuple(small.values()))
    candidates.cache_clear()
    return small


@pytest.mark.parametrize("name", ["wordnet", "wordnet-base"])
def test_which_nouns_are_taken(pinned: Mapping[str, Package], name: str) -> None:
    found = candidates(pinned[name], pinned["wordfreq"])
    assert {word: topic for word, topic, zipf in found if zipf > 3} == EXPECTED
    assert [word for word, _, _ in found] == ["hammer", "cat", "bread", "dog", "kettle", "jaguar"], (
        "frequent ones first"
    )


def test_a_lexicon_of_them(pinned: Mapping[str, Package]) -> None:
    lexicon = wordnet_lexicon(("animal", "artifact"))
    assert lexicon.words == ("cat", "dog", "hammer", "kettle")
    assert [one.name for one in lexicon.attributes] == ["topic", "initial", "length", "frequency"]
    assert wordnet_lexicon(("animal", "artifact"), 1, package="wordnet-base").words == ("cat", "hammer")
    with pytest.raises(SpecError, match="per_topic = 3: wordnet above Zipf 3 has 2 words of topic 'animal'"):
        wordnet_lexicon(("animal",), 3)
    assert len(wordnet_lexicon(("animal",), 3, min_zipf=2.9).words) == 3
    with pytest.raises(SpecError, match="min_zipf = 0"):
        wordnet_lexicon(min_zipf=0)


def test_plurals_are_those_of_the_table(
    pinned: Mapping[str, Package], keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordnet, "plurals_of", lambda: {"dog": "dogs", "hammer": "hammers", "x": "kettle"})
    lexicon = wordnet_lexicon(("animal", "artifact"), plurals=True)
    assert lexicon.words == ("cat", "dog", "hammer", "kettle")
    number = lexicon.attribute("number")
    assert [number.values[index] for index in number.of] == ["singular", "singular", "singular", "plural"]
    monkeypatch.setattr(wordnet, "plurals_of", lambda: {"cat": "cats", "dog": "dogs", "kettle": "kettles"})
    assert wordnet_lexicon(("animal", "artifact"), plurals=True).words == ("cat", "dogs", "hammer", "kettle")


def test_the_table_is_kept_and_made_again_when_damaged(pinned: Mapping[str, Package], cache: Path) -> None:
    first = wordnet_lexicon(("animal", "artifact"))
    (table,) = cache.parent.glob("nouns-*.json")
    for content in (table.read_bytes(), table.read_bytes()[:40], b"{}x", b"[[1]]"):
        table.write_bytes(content)
        candidates.cache_clear()
        assert wordnet_lexicon(("animal", "artifact")) == first
    for archive in cache.glob("*.*"):
        archive.unlink()
    candidates.cache_clear()
    assert wordnet_lexicon(("animal", "artifact")) == first, "the archives are not needed any more"
    table.unlink()
    candidates.cache_clear()
    with pytest.raises(
        DataError, match="wordnet and wordfreq are not in the cache; fetch with: unplateau data get wordnet wordfreq"
    ):
        wordnet_lexicon(("animal", "artifact"))


def test_an_archive_that_is_something_else(keep: Keep) -> None:
    odd = keep(tarball({"package/dict/data.noun": b"x\n"}), "odd.tgz")
    with pytest.raises(DataError, match=r"odd.tgz: not laid out like WordNet 3"):
        list(wordnet.nouns(odd))
    with pytest.raises(DataError, match="not a frequency table of wordfreq 3"):
        zipf_frequencies(keep(wheel({MEMBER: gzip.compress(packed([{"format": "dB"}, []]))}), "freq.whl"))


def test_blocked_words_are_plain() -> None:
    assert all(word.isalpha() and word.islower() for word in blocked())
    assert not blocked() & {"dog", "tool", "bread"}


values = st.recursive(
    st.integers(0, 127) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_msgpack_is_read_as_it_was_written(value: object) -> None:
    data = packed(value)
    stream = io.BytesIO(data)
    assert unpack(stream) == value
    assert stream.tell() == len(data)
    for cut in range(len(data)):
        with pytest.raises((IndexError, ValueError)):
            unpack(io.BytesIO(data[:cut]))
