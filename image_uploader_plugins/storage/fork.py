# SPDX-License-Identifier: Apache-2.0
"""The state that a child of fork must not take over from its parent."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

_renewals: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def in_child(owner: _T, renew: Callable[[_T], None]) -> None:
    """Have a child of fork call ``renew`` on its copy of ``owner``, while ``owner`` exists.

    A mutex that another thread of the parent holds would stay locked in the
    child forever.
    """
    _renewals[owner] = renew


def _renew() -> None:
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(after_in_child=_renew)
