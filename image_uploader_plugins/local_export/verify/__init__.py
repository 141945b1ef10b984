# SPDX-License-Identifier: Apache-2.0
"""Verification that a tree is complete and intact, and repair from its own content."""

from image_uploader_plugins.local_export.verify.finding import (
    Finding,
    Kind,
    Remedy,
    Report,
    Severity,
)
from image_uploader_plugins.local_export.verify.repair import repair
from image_uploader_plugins.local_export.verify.verification import Verification

__all__ = ["Finding", "Kind", "Remedy", "Report", "Severity", "Verification", "repair"]
