"""Targets for image-sync tools, as plugins."""
