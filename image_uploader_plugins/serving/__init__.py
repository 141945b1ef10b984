# SPDX-License-Identifier: Apache-2.0
"""Serving a tree: the embedded server, and configurations of web servers and clients."""
