"""unplateau shows the learning plateaus of in-context learning, says why they last, and ends them earlier.

Importing the package defines names and does nothing else: each name of ``__init__.pyi`` is imported on first use.
"""

from typing import Any

import lazy_loader

_named, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _named(name)
    from importlib.metadata import version  # noqa: PLC0415

    return version(__name__)
