# SPDX-License-Identifier: Apache-2.0
"""Libraries that are there only where somebody asked for them: the extras of this package."""

from __future__ import annotations

import importlib
import types

from image_uploader_plugins import errors

_LIBRARIES = {
    "metrics": "prometheus_client",
    "serve": "Werkzeug",
    "tripleo": "tripleo-common",
}


def require(extra: str, module: str) -> types.ModuleType:
    """Return our ``module`` that needs the library of an ``extra``.

    Raises ConfigurationError, which says what to install, where it cannot be
    imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise errors.ConfigurationError(
            f"this needs {_LIBRARIES[extra]} ({e}): {advice(extra)}"
        ) from e


def advice(extra: str) -> str:
    """Return what to do for an ``extra`` to be there."""
    return f"install image-uploader-plugins[{extra}]"
