"""Our Transformer as a folder of transformers' GPT-2, and back; nothing of transformers is imported.

Blocks, positions, final norm and read-out are GPT-2's own, under its names. Where labels are tokens it is a
``GPT2LMHeadModel`` over the words (token 0 stands for none); elsewhere a ``GPT2ForTokenClassification``, whose classes
are the labels. Items that are vectors, and cues, have no place in GPT-2: they are read in by ``Transformer.read_in``,
and ``read_in.safetensors`` keeps these weights.
"""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import nn

from unplateau.config import parse
from unplateau.errors import CheckpointError, RunDirectoryError, SpecError
from unplateau.files import read_json, write_json, write_whole
from unplateau.layout import TaskShape
from unplateau.models.transformer import ModelConfig, Transformer, gpt2_names
from unplateau.outputs import demand_replaceable, keyed, nobodys

CONFIG, WEIGHTS, READ_IN = "config.json", "model.safetensors", "read_in.safetensors"
OWN = "unplateau"
"""Key of the configuration under which our own sizes stand; transformers keeps it."""
_shape: TypeAdapter[TaskShape] = TypeAdapter(TaskShape)


def save_gpt2(model: Transformer, folder: str | Path, *, force: bool = False) -> Path:
    """Writes a folder that ``from_pretrained`` of the class named in its ``config.json`` reads, and returns it.

    ``model(inputs)`` is then that class's with ``inputs_embeds=model.read_in(inputs)``: the logits at the queries are
    equal, of words those of tokens 1 to ``n_labels``. Raises StorageError if the system refuses, OutputError if the
    folder has files of these names that are not from here, unless ``force`` allows to replace them.
    """
    folder, state, places = Path(folder), model.state_dict(), _places(model)
    theirs = {name: (state[ours].T if transposed else state[ours]).contiguous() for name, ours, transposed in places}
    rest = {name: value for name, value in state.items() if name not in {ours for _, ours, _ in places}}
    if "transformer.wte.weight" not in theirs:  # labels that are numbers: there is no vocabulary
        theirs["transformer.wte.weight"] = state["final_norm.weight"].new_zeros(1, model.width)
    demand_replaceable(folder / CONFIG, keyed(OWN), force=force)
    ours = force or (
        (folder / CONFIG).exists() and (folder / CONFIG).stat().st_size > 0
    )  # the other files say nothing of their maker
    for name in (READ_IN, WEIGHTS):
        demand_replaceable(folder / name, nobodys, force=ours)
    write_json(folder / CONFIG, _config(model))
    write_whole(folder / READ_IN, save_tensors({name: value.contiguous() for name, value in rest.items()}))
    write_whole(folder / WEIGHTS, save_tensors(theirs, metadata={"format": "pt"}))
    return folder


def load_gpt2(folder: str | Path) -> Transformer:
    """The Transformer of such a folder, also where transformers has trained it further and saved it.

    A folder that transformers saved needs ``read_in.safetensors`` of the first one beside its files, if that was not
    empty. Raises CheckpointError if a file is missing or does not fit, or the folder is not from :func:`save_gpt2`.
    """
    folder = Path(folder)
    try:
        own = read_json(folder / CONFIG)[OWN]
        config, shape = parse(ModelConfig, own["model"]), _shape.validate_python(own["shape"])
        theirs = load_file(folder / WEIGHTS)
    except (RunDirectoryError, SpecError, KeyError, TypeError, ValidationError, OSError, SafetensorError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{folder}: cannot be read as a folder of save_gpt2 ({why})") from error
    model = Transformer(config, shape)
    wanted = model.state_dict()
    found = load_file(folder / READ_IN) if (folder / READ_IN).is_file() else {}
    for name, ours, transposed in _places(model):
        if name in theirs:
            found[ours] = theirs[name].T if transposed else theirs[name]
    for name, value in wanted.items():
        if name not in found or found[name].shape != value.shape:
            where = WEIGHTS if name in {ours for _, ours, _ in _places(model)} else READ_IN
            raise CheckpointError(f"{folder / where}: no '{name}' of shape {tuple(value.shape)}")
    model.load_state_dict({name: found[name] for name in wanted})
    return model.eval()


def _places(model: Transformer) -> list[tuple[str, str, bool]]:
    """(their name, our name, is it stored transposed) of every tensor that has a place in GPT-2."""
    places = [(f"transformer.{theirs}", ours, transposed) for theirs, ours, transposed in gpt2_names(model.n_layers)]
    if model.shape.labels_are_tokens:
        return [*places, ("transformer.wte.weight", "item_embedding.weight", False)]
    if isinstance(model.label_embedding, nn.Embedding):
        places.append(("transformer.wte.weight", "label_embedding.weight", False))
    return [*places, *((f"classifier.{name}", f"read_out.{name}", False) for name in ("weight", "bias"))]


def _config(model: Transformer) -> dict[str, Any]:
    shape = model.shape
    words = model.item_embedding if shape.labels_are_tokens else model.label_embedding
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel" if shape.labels_are_tokens else "GPT2ForTokenClassification"],
        "n_embd": model.width,
        "n_layer": model.n_layers,
        "n_head": model.config.n_heads,
        "n_positions": shape.layout.n_positions,
        "vocab_size": words.num_embeddings if isinstance(words, nn.Embedding) else 1,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": model.final_norm.eps,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop", "classifier_dropout"), 0.0),
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": shape.labels_are_tokens,
        "id2label": {str(label): f"label {label}" for label in range(shape.n_labels)},
        "label2id": {f"label {label}": label for label in range(shape.n_labels)},
        OWN: {"model": model.config.model_dump(mode="json"), "shape": _shape.dump_python(shape, mode="json")},
    }
