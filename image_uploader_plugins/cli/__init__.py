"""The command ``image-uploader``: what all subcommands share; each has a module in commands."""
