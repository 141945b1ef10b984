"""What web servers and clients read of a tree: files derived from others."""
