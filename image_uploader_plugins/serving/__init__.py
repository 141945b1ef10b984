"""Serving a tree: the embedded server, and configurations of web servers and clients."""
