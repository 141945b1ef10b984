"""Images as files, for the way to where no network leads: OCI layouts and what docker saves."""
