# SPDX-License-Identifier: Apache-2.0
"""Where images come from: registries, who may read them, and how they are asked."""
