"""Reads a causal language model and its tokenizer from a folder or from the hub.

What is on this machine is taken first, the hub is asked only for what is not.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unplateau.cache import cache_dir
from unplateau.data import Package, members, package_named, read_member
from unplateau.errors import DataError, SpecError, missing_extra
from unplateau.files import held, lock_of, staged
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.token_task import TEMPLATE, TokenTask
from unplateau.integrations.huggingface.wrappers import unwrapped
from unplateau.tasks.base import Task

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
"""One of these is in a folder with a tokenizer; without any, transformers would make an empty one."""
ADAPTER = "adapter_config.json"
"""The file that peft writes beside the weights of an adapter."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in float32, in evaluation mode, and its tokenizer."""

    model: nn.Module
    tokenizer: Any

    @property
    def max_positions(self) -> int | None:
        """The longest prompt that the model was made for, where its config says so."""
        found = getattr(self.model.config, "max_position_embeddings", None)
        return int(found) if found else None


def load_decoder(
    where: str | Path,
    task: Task,
    *,
    template: str = TEMPLATE,
    labels: Sequence[str] | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Decoder, TokenTask]:
    """A language model ready to be probed on ``task``: its decoder and the task in its tokens.

    ``where``: a folder of ``save_pretrained``, or a name on the hub (``revision``: a branch or tag there). Raises
    SpecError or DataError, one line each, for all that :func:`load_language_model`, :class:`TokenTask` and
    :class:`Decoder` refuse.
    """
    loaded = load_language_model(where, revision=revision, device=device)
    return decoder_for(loaded, task, template=template, labels=labels)


def decoder_for(
    loaded: LanguageModel, task: Task, *, template: str = TEMPLATE, labels: Sequence[str] | None = None
) -> tuple[Decoder, TokenTask]:
    """The same for a model that is already loaded."""
    tokens = TokenTask(task, loaded.tokenizer, template, labels, max_positions=loaded.max_positions)
    return Decoder(loaded.model, label_tokens=tokens.label_tokens), tokens


def load_language_model(
    where: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    tokenizer_in: str | Path | None = None,
) -> LanguageModel:
    """Model and tokenizer of a folder or of a name on the hub; code that comes with a model is never run.

    ``where`` may also be ``smollm2``, the package of ``unplateau data get smollm2``.
    A folder of an adapter (peft) is that adapter in the model that it was trained in, where that is here or on the hub.
    ``tokenizer_in``: a folder whose tokenizer is taken where ``where`` has none. Raises SpecError for what is missing
    or no causal language model, DataError for files that are damaged or lack weights.
    """
    try:
        transformers: Any = import_module("transformers")
    except ImportError as error:
        raise missing_extra("language models need transformers", "hf") from error
    with _quiet(transformers):
        if str(where) in PACKAGED and not Path(where).exists():
            where = packaged_folder(package_named(str(where)), transformers)
        if is_adapter(where):
            return _adapted(Path(where), device, tokenizer_in)
        _check_place(where)
        config = _fetched(transformers.AutoConfig, where, revision)
        if config.is_encoder_decoder:
            raise SpecError(
                f"{where}: {config.model_type} is an encoder-decoder model; a causal language model is needed"
            )
        tokenizer = _tokenizer(transformers, where, revision, tokenizer_in)
        model, info = _fetched(
            transformers.AutoModelForCausalLM, where, revision, dtype=torch.float32, output_loading_info=True
        )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise DataError(
            f"{where}: the file of weights lacks {len(missing)} of the model's tensors, such as {missing[0]}"
        )
    return LanguageModel(model.to(device).eval(), tokenizer)


def is_adapter(where: str | Path) -> bool:
    """Whether a folder has an adapter, and no whole model."""
    return (Path(where) / ADAPTER).is_file() and not (Path(where) / "config.json").is_file()


def base_of(folder: Path) -> str:
    """Where the model is that the adapter of this folder belongs to; a relative name may be relative to the folder."""
    try:
        said = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / ADAPTER}: damaged: it names no base model ({error})") from error
    if not isinstance(said, str) or not said:
        raise SpecError(f"{folder / ADAPTER}: names no base model; write its folder to base_model_name_or_path")
    beside = (place / said for place in (Path(), folder, folder.parent, folder.parent.parent))
    return next((str(place) for place in beside if place.is_dir()), said)


def _adapted(folder: Path, device: str | torch.device, tokenizer_in: str | Path | None) -> LanguageModel:
    """The adapter of this folder in its model; the tokenizer that was saved with it, else that of the model."""
    try:
        peft: Any = import_module("peft")
    except ImportError as error:
        raise missing_extra(f"{folder}: an adapter needs peft", "hf") from error
    base = base_of(folder)
    own = next((one for one in (folder, tokenizer_in) if one is not None and _has_tokenizer(Path(one))), None)
    try:
        loaded = load_language_model(base, device=device, tokenizer_in=own)
    except SpecError as error:
        raise SpecError(f"{folder}: an adapter of {base}, which cannot be loaded: {error}") from error
    tokenizer = loaded.tokenizer if own is None else _fetched(_tokenizers(), own, None)
    whole: Any = loaded.model
    if len(tokenizer) > whole.get_input_embeddings().num_embeddings:  # tokens were added in training
        whole.resize_token_embeddings(len(tokenizer))
    try:
        model = unwrapped(peft.PeftModel.from_pretrained(whole, str(folder)).to(device).eval())
    except SpecError as error:
        raise SpecError(f"{folder}: {error}") from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{folder}: its adapter cannot be put into {base} ({type(error).__name__}: {said})") from error
    return LanguageModel(model, tokenizer)


def _tokenizers() -> Any:
    return import_module("transformers").AutoTokenizer


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _check_place(where: str | Path) -> None:
    path = Path(where)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SpecError(
                f"{where}: no model of transformers in this folder (it has no config.json, nor the {ADAPTER} of an "
                "adapter)"
            )
    elif path.exists():
        raise SpecError(f"{where}: a file; a folder of save_pretrained or a name on the hub is needed")
    elif isinstance(where, Path) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", where) or where.startswith("."):
        raise SpecError(f"{where}: no such folder")


def _tokenizer(transformers: Any, where: str | Path, revision: str | None, instead: str | Path | None) -> Any:
    places = [Path(place) for place in (where, instead) if place is not None and Path(place).is_dir()]
    if not places:
        return _fetched(transformers.AutoTokenizer, where, revision)
    for place in places:
        if _has_tokenizer(place):
            return _fetched(transformers.AutoTokenizer, place, None)
    raise SpecError(f"{where}: no tokenizer in this folder; save it there too (tokenizer.save_pretrained)")


def _fetched(kind: Any, where: str | Path, revision: str | None, **how: Any) -> Any:
    """What ``kind.from_pretrained`` gives, from this machine if it is here."""
    how |= {"revision": revision or "main", "trust_remote_code": False}
    try:
        try:
            return kind.from_pretrained(str(where), local_files_only=True, **how)
        except OSError:
            if Path(where).is_dir():
                raise
            # raises whatever stands in the way at once, where the libraries would try for half a minute
            import_module("huggingface_hub").HfApi().model_info(str(where), revision=revision, timeout=10)
            return kind.from_pretrained(str(where), **how)
    except MemoryError:
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):  # PyTorch's own words, in a RuntimeError
            raise MemoryError from error
        raise _told(error, kind.__name__, where, revision) from error


def _told(error: Exception, kind: str, where: str | Path, revision: str | None) -> SpecError | DataError:
    said = " ".join(str(error).split())
    if "safetensor" in type(error).__name__.lower():
        return DataError(f"{where}: the file of weights is damaged ({said})")
    if not Path(where).is_dir():
        at = f" at revision {revision}" if revision else ""
        return SpecError(f"{where}{at}: neither a folder here nor to be had from the hub ({said[:160]})")
    what = {"AutoConfig": "config", "AutoTokenizer": "tokenizer"}.get(kind, "model")
    return SpecError(f"{where}: cannot be loaded as a causal language model: {what}: {said[:200]}")


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bars and no notes of the library while it loads."""
    logging, hub = transformers.utils.logging, import_module("huggingface_hub").utils.logging
    level, level_of_hub, bars = logging.get_verbosity(), hub.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(level_of_hub)
        if bars:
            logging.enable_progress_bar()


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
        raise missing_extra(f"{package.name} is stored as GGUF", "hf")
    with held(lock_of(folder)):
        if not folder.is_dir():
            with staged(folder) as made:
                _convert(package, member, made, transformers)
    return folder


def _convert(package: Package, member: str, folder: Path, transformers: Any) -> None:
    """Fills the folder with plain weights and the tokenizer."""
    stored = folder / "model.gguf"
    stored.write_bytes(read_member(package, member))
    with redirect_stderr(io.StringIO()):  # a progress bar that has no switch
        read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=stored.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=stored.name)
    if hasattr(read.config, "quantization_config"):  # newer releases; the weights are plain numbers now
        del read.config.quantization_config  # transformers would refuse to save them
    plain = transformers.AutoModelForCausalLM.from_config(read.config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stored.unlink()
