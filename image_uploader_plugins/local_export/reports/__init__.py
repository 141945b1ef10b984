# SPDX-License-Identifier: Apache-2.0
"""Looking at a tree: what it holds, what a deletion would free; nothing is changed."""
