# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and system calls beside other programs, all measured in one run."""
