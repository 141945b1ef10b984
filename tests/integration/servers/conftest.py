# SPDX-License-Identifier: Apache-2.0

from tests.support.clients import ctr
from tests.support.served import images, kind, root, server

__all__ = ["ctr", "images", "kind", "root", "server"]
