# SPDX-License-Identifier: Apache-2.0
"""From a source into any driver: an image, its blobs, and what signs it."""
