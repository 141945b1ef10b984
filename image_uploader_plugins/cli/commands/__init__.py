# SPDX-License-Identifier: Apache-2.0
"""The subcommands: one module each, which is called as the command is typed."""
