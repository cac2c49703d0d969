"""Sphinx: the pages of this folder, and the API from its docstrings."""

from pytest_loaderperf import __version__

project = "pytest-loaderperf"
copyright = "the authors of pytest-loaderperf"  # noqa: A001 Sphinx reads this name
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 4  # links such as doctor.md#in-a-test, as on GitHub
html_theme = "furo"
html_title = "pytest-loaderperf"
html_copy_source = False
html_show_sphinx = False
autodoc_typehints = "none"  # signatures stay readable; docstrings give shapes and units
autodoc_member_order = "bysource"
nitpicky = True
