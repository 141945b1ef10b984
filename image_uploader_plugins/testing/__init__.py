# SPDX-License-Identifier: Apache-2.0
"""Tools for the author of a driver: the contract, images, a registry, a driver in memory."""
