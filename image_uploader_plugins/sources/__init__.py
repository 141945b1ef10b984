# SPDX-License-Identifier: Apache-2.0
"""Sources of images: registries, the logins for them, and the requests to them."""
