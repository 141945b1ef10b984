# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader``: what all subcommands share; each has a module in commands."""
