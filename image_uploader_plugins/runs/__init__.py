# SPDX-License-Identifier: Apache-2.0
"""The results of a run: records, the journal that collects them, and their output."""
