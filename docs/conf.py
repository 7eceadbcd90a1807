"""Sphinx builds these pages from Markdown, and the reference from docstrings; nothing is fetched."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "unplateau"
author = "The unplateau authors"
copyright = "2026, the unplateau authors"
release = version = installed_version("unplateau")

extensions = ["myst_parser", "sphinx.ext.autodoc", "reference"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "kind, model_config, noun"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "unplateau"
html_copy_source = False
