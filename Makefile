# SPDX-License-Identifier: Apache-2.0
# `make setup` prepares a fresh Debian, Ubuntu or Fedora; `make help` lists the rest.

PYTHON := .venv/bin/python
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test check kernels costs bench vagrant-test vagrant-test-public clean
MAKEFLAGS += --no-print-directory

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r name text; do \
		printf '  make %-19s %s\n' "$$name" "$$text"; done

setup: ## install what packages are missing, and .venv (root only when something is missing)
	@packaging/setup

run: setup ## the demonstration: rules enforced on this host, below a folder of its own (root)
	@$(PYTHON) -m sockrules.agent demo

test: ## ruff, mypy, then pytest with PYTEST_ARGS (root, for the kernel tests)
	@packaging/setup --test
	@$(MAKE) -f $(firstword $(MAKEFILE_LIST)) check
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

kernels: ## only the virtual machines; KERNEL=vmlinuz MODULES=lib/modules/RELEASE for one of yours (root)
	@packaging/setup --test
	@SOCKRULES_REQUIRE_KERNEL=1 SOCKRULES_VM_KERNEL=$(abspath $(KERNEL)) SOCKRULES_VM_MODULES=$(abspath $(MODULES)) \
		$(PYTHON) -m pytest tests/vm $(PYTEST_ARGS)

costs: ## what each kernel pays for each hook: the tables of docs/kernels.md (root)
	@packaging/setup --test
	@PYTHONPATH=tests $(PYTHON) -m vm measure

check: setup ## ruff and mypy, no root
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy -p sockrules.control -p sockrules.agent

bench: ## what a decision costs and what connect() feels, beside nftables; some minutes (root)
	@packaging/setup --bench
	@PYTHONPATH=tests:. $(PYTHON) -W ignore -m bench

vagrant-test: ## kernel tests in Vagrant machines: Debian 12 and 13, built here, emulated (root)
	@vagrant/local/test $(BOXES)

vagrant-test-public: ## kernel tests in public Vagrant boxes: Debian, Ubuntu, Fedora; BOXES="fedora" picks
	@vagrant/test $(BOXES)

clean: ## remove what setup, build and tests left; Debian's packages stay
	@rm -rf --one-file-system .venv build dist packaging/src/*.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find agent control tests packaging -name __pycache__ -type d -prune -exec rm -rf {} +
