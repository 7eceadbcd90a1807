"""Sphinx builds these pages from Markdown; nothing is fetched and no module of unplateau is imported."""

from importlib.metadata import version as installed_version

project = "unplateau"
author = "The unplateau authors"
copyright = "2026, the unplateau authors"
release = version = installed_version("unplateau")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "unplateau"
html_copy_source = False
