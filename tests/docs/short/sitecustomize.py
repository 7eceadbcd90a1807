"""Cuts the demo to 20 steps in every interpreter that starts with this folder on its path."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class ShortDemo(MetaPathFinder):
    """Changes ``unplateau.recipes`` when it is imported, and is gone."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "unplateau.recipes":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module = shortening(spec.loader)  # type: ignore[method-assign]
        return spec


def shortening(loader: Loader) -> Any:
    """What the loader does, and then a demo of 20 small steps."""
    execute = loader.exec_module

    def executed(module: ModuleType) -> None:
        execute(module)
        train = {"steps": 20, "batch_size": 8, "eval_prompts": 8, "probe_prompts": 16, "final_prompts": 8}
        demo = module.demo()
        short = type(demo).model_validate(demo.model_dump() | {"train": train})
        module.demo = lambda: short  # type: ignore[attr-defined]

    return executed


sys.meta_path.insert(0, ShortDemo())
