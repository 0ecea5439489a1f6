"""The documentation as a site: `make docs` writes build/docs."""

from importlib.metadata import version as _version

project = "Headgate"
author = "the Headgate authors"
copyright = "the Headgate authors, MIT licence"
release = version = _version("headgate")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
# `#heading` in a link means the heading as GitHub names it, so that pages read the same there.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"Headgate {release}"
html_copy_source = False
html_show_sphinx = False
# Nothing is fetched from elsewhere: the theme brings its own fonts and scripts.
