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
from unplateau.data import Package, members, read_member
from unplateau.errors import MissingExtraError
from unplateau.store import refusals_explained

PACKAGED = ("smollm2",)
"""Names of packages that carry a causal language model."""


def packaged_folder(package: Package, transformers: Any) -> Path:
    """The folder of the model in this package, half a gigabyte for SmolLM2-135M.

    What a conversion that was killed has left is removed by the next one. Raises DataError if the package was not
    fetched, MissingExtraError without the gguf library, StorageError if the disk refuses.
    """
    folder = cache_dir() / "models" / f"{package.name}-{package.version}"
    if folder.is_dir():
        return folder
    (member,) = (one for one in members(package) if one.endswith(".gguf"))
    if find_spec("gguf") is None:
        raise MissingExtraError(f"{package.name} is stored as GGUF: pip install 'unplateau[hf]'")
    with refusals_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                for left in folder.parent.glob(f"{_part(folder)}*"):  # under the lock: nobody is at work there
                    shutil.rmtree(left, ignore_errors=True)
                _convert(package, member, folder, transformers)
    return folder


def _convert(package: Package, member: str, folder: Path, transformers: Any) -> None:
    """Writes the folder whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_part(folder)) as temporary:
        stored, made = Path(temporary, "model.gguf"), Path(temporary, "made")
        stored.write_bytes(read_member(package, member))
        with redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            read = transformers.AutoModelForCausalLM.from_pretrained(temporary, gguf_file=stored.name)
        transformers.AutoTokenizer.from_pretrained(temporary, gguf_file=stored.name).save_pretrained(made)
        config = read.config
        if hasattr(config, "quantization_config"):  # newer releases; the weights are plain numbers now
            del config.quantization_config  # transformers would refuse to save them
        plain = transformers.AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(made)
        shutil.move(made, folder)


def _part(folder: Path) -> str:
    """How the names of temporary folders of this model begin."""
    return f".{folder.name}-"
