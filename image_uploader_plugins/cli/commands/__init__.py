"""One module a subcommand, called as it is."""
