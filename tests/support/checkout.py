# SPDX-License-Identifier: Apache-2.0
"""Where the files of this project are."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
