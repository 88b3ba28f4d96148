# SPDX-License-Identifier: Apache-2.0
"""The agent: everything that touches the kernel."""
