"""Pretrained models that come inside a package of ``unplateau data``: no hub is needed.

What enters: the name of such a package. What leaves: a folder that transformers can load, made once in the cache. The
weights lie in the package as quantised GGUF; transformers and the gguf library turn them into float32.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from unplateau.cache import cache_dir
from unplateau.data import members, package_named, read_member
from unplateau.errors import MissingExtraError
from unplateau.store import refusals_explained

PACKAGED = ("smollm2",)
"""Names of packages that carry a causal language model."""


def packaged_folder(name: str, transformers: Any) -> Path:
    """The folder of the model in this package, half a gigabyte for SmolLM2-135M.

    Raises DataError if the package was not fetched, MissingExtraError without the gguf library, StorageError if the
    disk refuses.
    """
    folder = cache_dir() / "models" / f"{name}-{package_named(name).version}"
    if folder.is_dir():
        return folder
    (member,) = (one for one in members(name) if one.endswith(".gguf"))
    if find_spec("gguf") is None:
        raise MissingExtraError(f"{name} is stored as GGUF: pip install 'unplateau[hf]'")
    with refusals_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _convert(name, member, folder, transformers)
    return folder


def _convert(name: str, member: str, folder: Path, transformers: Any) -> None:
    """Writes the folder whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        stored, made = Path(temporary, "model.gguf"), Path(temporary, "made")
        stored.write_bytes(read_member(name, member))
        with redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            read = transformers.AutoModelForCausalLM.from_pretrained(temporary, gguf_file=stored.name)
        transformers.AutoTokenizer.from_pretrained(temporary, gguf_file=stored.name).save_pretrained(made)
        config = read.config
        del config.quantization_config  # the weights are plain numbers now; transformers would refuse to save them
        plain = transformers.AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(made)
        shutil.move(made, folder)
