# SPDX-License-Identifier: Apache-2.0
"""The guard of deletions by a rule: the share of the tags that may go at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

DEFAULT = "0.5"


def excess(gone: int, tags: int, where: str, share: Fraction) -> str:
    """Return why nothing is deleted where ``gone`` of the ``tags`` would go; "" if they may."""
    if gone <= tags * share:
        return ""
    return (
        f"{gone} of the {tags} tags of {where} would go, more than --max-share "
        f"{float(share):g} allows: nothing is deleted"
    )
