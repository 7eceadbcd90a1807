"""Nouns of WordNet (Miller 1995; Fellbaum 1998) with their topics, the most frequent first.

Reading takes some seconds, so the table of candidates is kept in the cache under a hash of what it was made from.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files

from unplateau.cache import cache_dir
from unplateau.data.archives import read_members
from unplateau.data.fetch import state
from unplateau.data.lexicon import TOPICS, Entry, Lexicon, chosen
from unplateau.data.packages import Package, package_named
from unplateau.data.word_tables import plurals_of, zipf_frequencies
from unplateau.errors import DataError, SpecError, StorageError
from unplateau.files import write_whole

TOPICS_BY_FILE = (
    *("Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process"),
    *("quantity", "relation", "shape", "state", "substance", "time"),
)
"""The noun files 03 to 28 by name, a table that neither package holds; 29 to 44 are those of verbs and participles."""


def wordnet_lexicon(
    topics: Sequence[str] = TOPICS,
    per_topic: int | None = None,
    min_zipf: float = 3.0,
    *,
    plurals: bool = False,
    package: str = "wordnet",
) -> Lexicon:
    """The most frequent nouns of each topic: topic, initial, length, frequency, number.

    A word is taken if its first noun sense stands in the topic's file, in lower case, with 3 to 12 letters; at least
    half of its noun senses are of that topic; its uses as a noun, counted in WordNet's tagged texts, are not fewer
    than its other uses; and its Zipf frequency is above ``min_zipf``.

    Args:
        topics: names of WordNet's noun files, such as animal, artifact, body, food, location, person, plant, substance
        per_topic: words of each topic; default: as many as the smallest topic has
        min_zipf: log10 of occurrences in a billion words; at least 1
        plurals: every second noun stands in its plural (from lemminflect's table); this gives the attribute ``number``
        package: ``wordnet`` (3.1, npm) or ``wordnet-base`` (3.0, Debian)

    Fetches nothing: raises DataError, naming the command, if an archive is not in the cache.
    """
    if min_zipf < 1:
        raise SpecError(f"min_zipf = {min_zipf:g}: rarer words than 1 are not counted")
    taken = [one for one in candidates(package_named(package), package_named("wordfreq")) if one[2] > min_zipf]
    entries = _numbered(taken) if plurals else [Entry(word, topic, zipf=zipf) for word, topic, zipf in taken]
    return chosen(entries, topics, per_topic, plurals=plurals, source=f"{package} above Zipf {min_zipf:g}")


Candidate = tuple[str, str, float]


def _numbered(taken: Sequence[Candidate]) -> list[Entry]:
    """With the plural of each word, or marked as one: WordNet lists some plurals (humans, eggs) beside singulars."""
    plural_of = plurals_of()
    forms = set(plural_of.values())
    return [
        Entry(word, topic, zipf=zipf, number="plural")
        if word in forms
        else Entry(word, topic, plural=plural_of.get(word, ""), zipf=zipf)
        for word, topic, zipf in taken
    ]


@lru_cache(maxsize=4)
def candidates(wordnet: Package, wordfreq: Package) -> tuple[Candidate, ...]:
    """(word, topic, Zipf frequency) of the nouns that may be taken, the most frequent first."""
    packages = (wordnet, wordfreq)
    # The 1 is raised whenever the table changes its meaning.
    made_of = json.dumps([1, sorted(blocked()), TOPICS_BY_FILE, [package.sha256 for package in packages]])
    path = cache_dir() / f"nouns-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError, TypeError):
        return tuple((str(word), str(topic), float(zipf)) for word, topic, zipf in json.loads(path.read_bytes()))
    if missing := [package.name for package in packages if state(package) == "missing"]:
        what = "is" if len(missing) == 1 else "are"
        command = f"unplateau data get {' '.join(missing)}"
        raise DataError(f"{' and '.join(missing)} {what} not in the cache; fetch with: {command}")
    zipf = zipf_frequencies(wordfreq)
    found = [
        (word, topic, zipf[word])
        for word, topic in nouns(wordnet)
        if zipf.get(word, 0) >= 1 and word not in blocked() and re.fullmatch("[a-z]{3,12}", word)
    ]
    found.sort(key=lambda one: (-one[2], one[0]))
    with suppress(StorageError):  # a cache that cannot be written only costs time
        write_whole(path, json.dumps(found).encode())
    return tuple(found)


@lru_cache(maxsize=1)
def blocked() -> frozenset[str]:
    """Vulgar, sexual or demeaning words, and some violent ones, which nobody wants in a demonstration."""
    return frozenset((files("unplateau.data") / "shipped" / "blocked.txt").read_text(encoding="utf-8").split())


def nouns(package: Package) -> Iterator[tuple[str, str]]:
    """(lemma, topic) of each noun with a lower-case first sense, a topic for half its senses, and mostly noun use."""
    names = {"data.noun", "index.noun", "index.sense", "cntlist.rev"}
    kept = {
        name.rpartition("/")[2]: data for name, data in read_members(package, lambda n: n.rpartition("/")[2] in names)
    }
    try:
        topics = _topics(kept["data.noun"].decode())
        uses = _uses((kept.get("index.sense") or kept["cntlist.rev"]).decode())
        for line in _below_notice(kept["index.noun"].decode()):
            lemma, _, n_senses, *rest = line.split()
            offsets = rest[-int(n_senses) :]
            numbers = [topics[offset][0] for offset in offsets]
            as_noun, otherwise = uses[lemma]
            lower = lemma in topics[offsets[0]][1]
            if lower and 2 * numbers.count(numbers[0]) >= len(numbers) and as_noun >= otherwise:
                yield lemma, TOPICS_BY_FILE[numbers[0] - 3]
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"{package.archive}: not laid out like WordNet 3 ({error!r})") from error


def _topics(data: str) -> dict[str, tuple[int, frozenset[str]]]:
    """File number and members, in their own case, of each group of synonyms, by its place in ``data.noun``."""
    found = {}
    for line in _below_notice(data):
        offset, file, _, size, *rest = line.split(" | ", 1)[0].split()
        found[offset] = int(file), frozenset(rest[: 2 * int(size, 16) : 2])
    return found


def _uses(table: str) -> defaultdict[str, list[int]]:
    """Counts in the tagged texts as a noun and otherwise, 0 for the lemmas that are not in the table.

    A line begins with a sense key (``lemma%type:file:...``, of which nouns have type 1) and ends with its count.
    """
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in table.splitlines():
        key, *_, count = line.split()
        lemma, _, rest = key.partition("%")
        counts[lemma][rest[0] != "1"] += int(count)
    return counts


def _below_notice(text: str) -> list[str]:
    """Lines of a database file without the licence at its head, whose lines begin with a space."""
    return [line for line in text.splitlines() if line and not line.startswith(" ")]
