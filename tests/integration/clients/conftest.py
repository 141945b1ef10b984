# SPDX-License-Identifier: Apache-2.0

from tests.support.clients import ctr, docker, puller, skopeo
from tests.support.served import images, kind, root, server

__all__ = ["ctr", "docker", "images", "kind", "puller", "root", "server", "skopeo"]
