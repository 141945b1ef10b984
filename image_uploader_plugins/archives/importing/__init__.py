# SPDX-License-Identifier: Apache-2.0
"""Images of an archive, brought to a target."""
