"""From a source into a driver."""
