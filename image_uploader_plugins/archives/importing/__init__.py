"""Images of an archive, brought to a target."""
