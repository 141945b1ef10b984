"""A registry, a few images and a web server to try the whole flow with."""
