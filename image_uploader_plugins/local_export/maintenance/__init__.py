# SPDX-License-Identifier: Apache-2.0
"""What is done to a tree now and then, as a whole."""
