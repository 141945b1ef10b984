# SPDX-License-Identifier: Apache-2.0
"""Whether a tree is complete and intact, and mending it from what is in it."""

from image_uploader_plugins.local_export.verify.finding import Finding, Remedy, Report
from image_uploader_plugins.local_export.verify.repair import repair
from image_uploader_plugins.local_export.verify.verification import Verification

__all__ = ["Finding", "Remedy", "Report", "Verification", "repair"]
