"""Images of a tree, written to an archive."""
