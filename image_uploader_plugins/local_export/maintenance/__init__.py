# SPDX-License-Identifier: Apache-2.0
"""Work on a tree as a whole: garbage collection, adoption, retention."""
