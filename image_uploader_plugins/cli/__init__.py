"""The command ``image-uploader``, one module a subcommand."""
