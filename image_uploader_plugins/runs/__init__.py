# SPDX-License-Identifier: Apache-2.0
"""What happened in a run: records, the journal that collects them, and how they are written."""
