"""The subcommands: one module each, which is called as the command is typed."""
