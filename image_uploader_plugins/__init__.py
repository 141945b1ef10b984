# SPDX-License-Identifier: Apache-2.0
"""Targets for image-sync tools, as plugins."""
