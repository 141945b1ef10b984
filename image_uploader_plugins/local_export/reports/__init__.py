# SPDX-License-Identifier: Apache-2.0
"""Reports on a tree, which change nothing: what it holds, what a deletion would free."""
