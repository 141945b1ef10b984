# SPDX-License-Identifier: Apache-2.0
"""A target for image-uploader: one OCI image layout for each repository."""
