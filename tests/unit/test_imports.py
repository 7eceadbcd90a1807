"""Importing does nothing: no torch, no settings, no loggers; names are imported when they are first used.

Each check has a process of its own, because this one has imported everything already.
"""

import json
import subprocess
from pathlib import Path

import pytest

import unplateau
from forked import new_interpreter

CHANGES_OF_IMPORT = """
import json, logging, os, signal, sys, warnings

def state():
    return {
        "modules": {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names),
        "environment": set(os.environ.items()),
        "loggers": {str(name) for name in logging.root.manager.loggerDict},
        "handlers": {str(handler) for handler in logging.root.handlers},
        "warnings": {str(rule) for rule in warnings.filters},
        "hooks": {str(hook) for hook in (sys.excepthook, sys.displayhook, signal.getsignal(signal.SIGTERM))},
    }

before = state()
import unplateau
after = state()
print(json.dumps({name: sorted(map(str, after[name] - before[name])) for name in after}))
"""

READING = ("errors", "config", "layout", "history", "scores", "files", "store", "tables", "logs", "energy", "plateau")
READING += ("data", "analysis", "report")
IMPORTS_OF_PACKAGES = """
import importlib, json, pkgutil, sys

for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

WHAT_NAMES_ARE = """
import importlib, json, pkgutil, sys
import unplateau

if sys.argv[1] == "after importing all modules":
    for found in pkgutil.iter_modules(unplateau.__path__):
        if not found.name.startswith("_"):
            importlib.import_module(f"unplateau.{found.name}")
print(json.dumps({name: type(getattr(unplateau, name)).__name__ for name in unplateau.__all__}))
"""


def in_a_fresh_interpreter(program: str, *arguments: str) -> object:
    return told(new_interpreter("-c", program, *arguments, cwd=Path.cwd()))


def told(run: subprocess.CompletedProcess[str]) -> object:
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_importing_the_package_does_nothing():
    changes = in_a_fresh_interpreter(CHANGES_OF_IMPORT)
    assert changes.pop("modules") == ["lazy_loader", "unplateau"]
    assert changes == {name: [] for name in changes}


def test_reading_needs_no_torch():
    imported = in_a_fresh_interpreter(IMPORTS_OF_PACKAGES, *(f"unplateau.{name}" for name in READING))
    assert not {"torch", "transformers", "lightning", "safetensors"} & set(imported)


def test_only_the_report_draws():
    assert "matplotlib" not in in_a_fresh_interpreter(IMPORTS_OF_PACKAGES, "unplateau.analysis")


@pytest.mark.parametrize("name", unplateau.__all__)
def test_every_public_name_is_there_when_asked_for(name):
    assert getattr(unplateau, name) is not None


def test_a_name_shared_with_a_module_is_the_same_in_any_order(python):
    """Importing ``unplateau.train`` binds the module over the public function ``train`` unless something is done."""
    at_first, afterwards = (
        told(python("-c", WHAT_NAMES_ARE, when, cwd=Path.cwd())) for when in ("at first", "after importing all modules")
    )
    assert at_first == afterwards
    assert at_first["train"] == at_first["decompose"] == "function"


def test_public_names_are_listed_once_and_shown():
    assert len(set(unplateau.__all__)) == len(unplateau.__all__)
    assert set(unplateau.__all__) <= set(dir(unplateau))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="plateaus"):
        _ = unplateau.plateaus


def test_types_are_shipped():
    assert Path(unplateau.__file__).with_name("py.typed").exists()
