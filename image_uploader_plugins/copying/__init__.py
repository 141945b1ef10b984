# SPDX-License-Identifier: Apache-2.0
"""Copying from a source into any driver: images, their blobs and signatures."""
