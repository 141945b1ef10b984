# SPDX-License-Identifier: Apache-2.0
"""Making a target hold what lists of images say, without tripleo-common."""
