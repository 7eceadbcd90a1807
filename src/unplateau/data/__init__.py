"""Language data: words with attributes and texts with classes, shipped, fetched from a package registry, or a user's.

What enters: names, or paths of files. What leaves: frozen values (:class:`Lexicon`, :class:`LabelledTexts`). Only
:func:`fetch` reaches for the network; everything else reads what is there.
"""

from unplateau.data.archives import members, read_member, read_members
from unplateau.data.corpora import (
    TaggedSentences,
    bbc_news,
    brown_genres,
    brown_tagged,
    load_texts,
    movie_reviews,
    newsgroups,
    reuters_r8,
    spam_mails,
)
from unplateau.data.fetch import archive_of, archive_path, fetch, packages_dir, state
from unplateau.data.lexicon import Attribute, Lexicon, lexicon_from_file, shipped_lexicon
from unplateau.data.packages import ALTERNATIVES, PACKAGES, Package, package_named
from unplateau.data.texts import LabelledTexts, sentences, shipped_texts, texts_from_file
from unplateau.data.word_tables import Analogy, Inflection, analogies, inflections, zipf_frequencies
from unplateau.data.wordnet import wordnet_lexicon

__all__ = [
    "ALTERNATIVES",
    "Analogy",
    "Attribute",
    "Inflection",
    "LabelledTexts",
    "Lexicon",
    "PACKAGES",
    "Package",
    "TaggedSentences",
    "analogies",
    "archive_of",
    "archive_path",
    "bbc_news",
    "brown_genres",
    "brown_tagged",
    "fetch",
    "inflections",
    "lexicon_from_file",
    "load_texts",
    "members",
    "movie_reviews",
    "newsgroups",
    "package_named",
    "packages_dir",
    "read_member",
    "read_members",
    "reuters_r8",
    "sentences",
    "shipped_lexicon",
    "shipped_texts",
    "spam_mails",
    "state",
    "texts_from_file",
    "wordnet_lexicon",
    "zipf_frequencies",
]
