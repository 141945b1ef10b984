from tests.support.served import images, kind, root, server

__all__ = ["images", "kind", "root", "server"]
