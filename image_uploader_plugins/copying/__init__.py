"""From a source into any driver: an image, its blobs, and what signs it."""
