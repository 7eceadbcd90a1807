"""Where files that take long to make or to fetch are kept.

What enters: the environment. What leaves: the folder; what is in it can be deleted at any time and made again.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_dir() -> Path:
    """``UNPLATEAU_CACHE`` if it is set, else the user's cache directory; not created here."""
    return Path(os.environ.get("UNPLATEAU_CACHE") or user_cache_dir("unplateau"))
