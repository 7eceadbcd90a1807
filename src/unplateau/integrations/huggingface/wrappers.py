"""What people put around a model: what is looked through to the model itself, and what cannot be."""

from typing import Any

from torch import nn

from unplateau.errors import SpecError

INSIDE = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "AveragedModel": "module",
    "DeepSpeedEngine": "module",
    "_FabricModule": "_original_module",
    "OptimizedModule": "_orig_mod",  # of torch.compile
}
"""The wrappers that only call the model, by the name of their class, and the name that each has for it."""
SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside wrappers of torch, Lightning Fabric, DeepSpeed and peft; its adapters stay in it.

    Raises SpecError for wrappers inside which no model computes the whole batch, or the prompt as it was given.
    """
    while True:
        names = _classes(model)
        if "DataParallel" in names and len(getattr(model, "device_ids", None) or ()) > 1:
            raise SpecError("DataParallel cuts each batch over its devices: use DistributedDataParallel")
        name = next((inside for kind, inside in INSIDE.items() if kind in names and inside in model._modules), None)
        if name is not None:
            model = model.get_submodule(name)
        elif is_adapted(model):
            model = _without_peft(model)
        else:
            return model


def refuse_sharded(model: nn.Module) -> None:
    """Raises SpecError for weights that are whole on no device outside the model's own forward pass."""
    kinds = {name for module in model.modules() for name in _classes(module)}
    found = next((name for name in SHARDED if name in kinds), None)
    if found is None and any(_is_part_of_a_tensor(one) for one in model.parameters()):
        found = "DeepSpeed ZeRO 3, or tensor parallelism,"
    if found is not None:
        raise SpecError(
            f"{found.replace('FSDPModule', 'FSDP (fully_shard)')} shards the weights, which are whole only inside the "
            "model's own forward pass, but its parts are read outside of it too: use DistributedDataParallel, or "
            "gather the weights into a model of their own"
        )


def is_adapted(model: nn.Module) -> bool:
    """Whether it is a model of peft around another one."""
    return hasattr(model, "get_base_model") and _is_of_peft(model)


def bare(module: nn.Module) -> nn.Module:
    """The layer that an adapter, or ``torch.compile``, stands around; where it has a trained copy, that copy."""
    while True:
        if "_orig_mod" in module._modules:
            module = module.get_submodule("_orig_mod")
            continue
        if not _is_of_peft(module):
            return module
        copies: Any = module._modules.get("modules_to_save") or {}
        active = [copies[name] for name in getattr(module, "active_adapters", ()) if name in copies]
        base = active or [getattr(module, name, None) for name in ("base_layer", "original_module")]
        inner = next((one for one in base if isinstance(one, nn.Module)), None)
        if inner is None:
            return module
        module = inner


def _without_peft(model: Any) -> nn.Module:
    """The model that adapters stand in. Raises SpecError for those that stand before it, as tokens of their own."""
    for config in model.peft_config.values():
        if config.is_prompt_learning or getattr(config, "is_adaption_prompt", False):
            kind = getattr(config.peft_type, "value", config.peft_type)
            raise SpecError(
                f"a {kind} adapter shows the model learned tokens that are not in the prompt, so that no position is "
                "without context; adapters of layers, such as LoRA, can be taken apart"
            )
    return model.get_base_model()


def _is_of_peft(module: nn.Module) -> bool:
    return any(kind.__module__.split(".")[0] == "peft" for kind in type(module).__mro__)


def _is_part_of_a_tensor(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "ds_id") or "DTensor" in (type(parameter).__name__, type(parameter.data).__name__)


def _classes(module: nn.Module) -> set[str]:
    return {kind.__name__ for kind in type(module).__mro__}
