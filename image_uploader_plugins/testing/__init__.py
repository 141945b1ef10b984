# SPDX-License-Identifier: Apache-2.0
"""What the author of a driver tests with: the contract, images, a registry, a driver in memory."""
