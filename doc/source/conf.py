# SPDX-License-Identifier: Apache-2.0
"""How the documentation is built: ``tox -e docs``."""

import argparse
import importlib.metadata
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cliff.sphinxext
import docutils.nodes
import docutils.parsers.rst
import docutils.statemachine
import sphinx.application
import sphinx.transforms

from image_uploader_plugins.sync import schema

REPOSITORY = Path(__file__).parents[2]

project = "image-uploader-plugins"
author = copyright = "the authors of image-uploader-plugins"
release = version = importlib.metadata.version(project)

extensions = [
    "sphinx.ext.autodoc",
    # The commands and the options, from the code.
    "cliff.sphinxext",
    "oslo_config.sphinxext",
    "sphinx_copybutton",
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
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

# What is copied of a terminal are the commands, without prompts and output.
copybutton_exclude = ".linenos, .gp, .go"


def _epilog(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Show what help prints last, the examples, as the text for a terminal that they are."""
    if parser.epilog and parser.epilog != f"This command is provided by the {project} plugin.":
        yield from ["::", "", *textwrap.indent(parser.epilog, "   ").splitlines()]


cliff.sphinxext._format_epilog = _epilog


class KeysOfLists(docutils.parsers.rst.Directive):
    """A table of the keys of a list of images, from its schema: ``.. keys-of-lists:: images``."""

    required_arguments = 1

    def run(self) -> list[docutils.nodes.Node]:
        part = _part(schema.loaded(), self.arguments[0].split("."))
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 30 48", ""]
        for key, *cells in [("Key", "Value", "Meaning"), *_rows(part)]:
            lines += [f"   * - {key}", *(f"     - {cell}" for cell in cells)]
        container = docutils.nodes.container()
        self.state.nested_parse(docutils.statemachine.StringList(lines), 0, container)
        return container.children


def _rows(part: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, fields in part["properties"].items():
        yield f"``{name}``", _escaped(fields["title"]), _escaped(fields["description"])


def _escaped(text: str) -> str:
    return re.sub(r"[*`|_\\]", r"\\\g<0>", text)


def _part(fields: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Return the part of a schema that has the keys below a key."""
    if path:
        found = _with_keys(fields)["properties"][path[0]]
        return _part(found, path[1:])
    return _with_keys(fields)


def _with_keys(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what has keys in it: itself, what is in a list, or one of several forms."""
    if "properties" in fields:
        return fields
    inner = [fields.get("items"), fields.get("additionalProperties"), *fields.get("anyOf", [])]
    return next(filter(None, map(_with_keys, filter(None, inner))), {})


class Terminals(sphinx.transforms.SphinxTransform):
    """Marks the blocks that show a terminal, by the prompt with which they begin."""

    default_priority = 100  # before highlighting

    def apply(self, **kwargs: Any) -> None:
        """Give each block that begins with a prompt, and has no language, that of terminals."""
        for block in self.document.findall(docutils.nodes.literal_block):
            if "language" not in block and block.astext().startswith(("$ ", "# ")):
                block["language"] = "console"


def _join_output(*arguments: Any) -> None:
    """Make the end of a line before output a part of the output, which is not copied."""
    context = arguments[3]
    if "body" in context:
        context["body"] = context["body"].replace('\n<span class="go">', '<span class="go">\n')


def setup(app: sphinx.application.Sphinx) -> None:
    """Add what is our own: directives, a transform, and what is said by messages."""
    app.add_directive("keys-of-lists", KeysOfLists)
    app.add_transform(Terminals)
    app.connect("html-page-context", _join_output)
    # ``.. message:: TEXT`` describes what a command says, and is a place that links lead to.
    app.add_object_type("message", "message")
