# SPDX-License-Identifier: Apache-2.0
"""Lists of images as operators write them: what entries mean, and how they are copied."""
