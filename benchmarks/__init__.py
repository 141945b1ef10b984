# SPDX-License-Identifier: Apache-2.0
"""Speed and memory, side by side with tripleo-common's own export, in one run."""
