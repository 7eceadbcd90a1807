"""Language data: words with attributes and texts with classes, shipped, fetched from a package registry, or a user's.

Only :func:`fetch` reaches for the network; everything else reads what is there.
"""

from unplateau.data.archives import members as members
from unplateau.data.archives import read_member as read_member
from unplateau.data.corpora import brown_tagged as brown_tagged
from unplateau.data.corpora import load_texts as load_texts
from unplateau.data.fetch import archive_path as archive_path
from unplateau.data.fetch import fetch as fetch
from unplateau.data.fetch import packages_dir as packages_dir
from unplateau.data.fetch import state as state
from unplateau.data.lexicon import lexicon_from_file as lexicon_from_file
from unplateau.data.lexicon import shipped_lexicon as shipped_lexicon
from unplateau.data.packages import ALTERNATIVES as ALTERNATIVES
from unplateau.data.packages import PACKAGES as PACKAGES
from unplateau.data.packages import Package as Package
from unplateau.data.packages import package_named as package_named
from unplateau.data.texts import shipped_texts as shipped_texts
from unplateau.data.texts import texts_from_file as texts_from_file
from unplateau.data.word_tables import analogies as analogies
from unplateau.data.word_tables import inflections as inflections
from unplateau.data.wordnet import wordnet_lexicon as wordnet_lexicon
