# SPDX-License-Identifier: Apache-2.0
"""How the documentation is built: ``tox -e docs``."""

import argparse
import importlib.metadata
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cliff.sphinxext

REPOSITORY = Path(__file__).parents[2]

project = "image-uploader-plugins"
author = copyright = "the authors of image-uploader-plugins"
release = version = importlib.metadata.version(project)

extensions = [
    "sphinx.ext.autodoc",
    # The commands and the options, from the code.
    "cliff.sphinxext",
    "oslo_config.sphinxext",
]
exclude_patterns: list[str] = []
suppress_warnings: list[str] = []

if (REPOSITORY / ".git").exists():
    extensions.append("reno.sphinxext")
else:
    # reno reads notes from the history, which an archive of the sources has not.
    exclude_patterns.append("releasenotes.rst")
    suppress_warnings.append("toc.excluded")

# tripleo-common need not be installed to tell what is called.
autodoc_mock_imports = ["tripleo_common"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 70  # characters

highlight_language = "none"
nitpicky = True
# Types of other packages, whose documentation is not at hand without a network; type variables.
nitpick_ignore_regex = [(r"py:.*", r"(?!image_uploader_plugins\.).*"), (r"py:.*", r".*\._T")]
smartquotes = False

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_copy_source = False
html_show_sphinx = False


def _epilog(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Show what help prints last, the examples, as the text for a terminal that they are."""
    if parser.epilog and parser.epilog != f"This command is provided by the {project} plugin.":
        yield from ["::", "", *textwrap.indent(parser.epilog, "   ").splitlines()]


cliff.sphinxext._format_epilog = _epilog
