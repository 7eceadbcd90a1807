"""unplateau shows the learning plateaus of in-context learning, says why they last, and ends them earlier.

Importing the package defines names and does nothing else: each name of ``__init__.pyi`` is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
