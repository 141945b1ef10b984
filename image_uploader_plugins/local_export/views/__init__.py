# SPDX-License-Identifier: Apache-2.0
"""What web servers and clients read of a tree: files derived from others."""
