# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: other kernels than this host's, booted under emulation to run the tests."""
