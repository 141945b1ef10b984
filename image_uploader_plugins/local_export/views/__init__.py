# SPDX-License-Identifier: Apache-2.0
"""Views of a tree: files that are derived from others and that web servers read."""
