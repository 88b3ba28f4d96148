# SPDX-License-Identifier: Apache-2.0
"""The control plane: rules, compiler, reference evaluator and command line. No kernel in here."""
