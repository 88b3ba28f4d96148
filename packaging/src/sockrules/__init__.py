# SPDX-License-Identifier: Apache-2.0
"""Socket rules for Linux: who may listen, which peers they accept, where they may connect."""

__version__ = "0.1.0"
