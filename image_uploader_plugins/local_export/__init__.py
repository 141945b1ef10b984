# SPDX-License-Identifier: Apache-2.0
"""The driver `local-export`: a directory tree that any web server hands out as a registry."""
