# Everything a newcomer needs: `make run` and `make test`. `make` alone lists the targets.
# PYTHON=python3.13 make test    chooses the interpreter, with an environment of its own (.venv-3.13)
# BIND=127.0.0.1:9000 make run   any setting of docs/settings.md goes into the environment, or into .env

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run dev test test-long check bench screenshots services lock audit
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

ifeq ($(strip $(PYTHON)),)
# The first that is new enough. A name on PATH may be a shim without an interpreter behind it, so each is asked.
override PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
else
VENV := .venv-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
endif

# Tools run as modules of this interpreter: the scripts beside it hold its absolute path, which is wrong as soon as the
# folder has another name.
IN_VENV := $(VENV)/bin/python

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'

run: $(VENV)/requirements.installed ## Serve on 127.0.0.1:8000 with demo data; needs no Redis and no PostgreSQL
	@exec $(IN_VENV) -m app.cli run

# On a change the server gets SIGINT, as by Ctrl-C, and the time that running tasks may take.
dev: $(VENV)/requirements-dev.installed ## The same, and start again whenever a file of app/ or .env changes
	@exec $(IN_VENV) -m watchfiles --sigint-timeout 15 --filter app.reload.restarts \
		--target-type command '$(IN_VENV) -m app.cli run' .

test: $(VENV)/requirements-dev.installed ## Run the tests; those that need a missing server are skipped and named
	@$(IN_VENV) -m pytest -n auto --maxprocesses 4 --dist worksteal

test-long: $(VENV)/requirements-dev.installed ## Run the soaks and the long fault runs
	@$(IN_VENV) -m pytest -m long -o faulthandler_timeout=1800

check: $(VENV)/requirements-dev.installed ## Lint, formatting, types and the direction of imports
	@$(IN_VENV) -m mypy
	@$(IN_VENV) -m mypy --platform darwin app
	@$(IN_VENV) -m mypy --platform win32 app
	@$(IN_VENV) -c 'from importlinter.cli import lint_imports_command as main; main(["--no-logo"])'
	@$(IN_VENV) -m ruff check .
	@$(IN_VENV) -m ruff format --check .

bench: $(VENV)/requirements-dev.installed bench/.venv/requirements.installed bench/.venv-older/requirements-older.installed ## Measure beside peers; NAME=client picks one (capacity, limits, cache, app, api, api_1, api_512, logins, data, serving, slow_clients, tasks, tasks_web, events, events_10000, growth, report), ROUNDS=3 is quicker
	@$(IN_VENV) -m bench $(NAME) $(if $(ROUNDS),--rounds $(ROUNDS))

screenshots: $(VENV)/requirements-dev.installed ## Screenshots of the pages with demo data into var/screenshots
	@$(IN_VENV) -m tests.browser.screenshots

services: ## Install what some tests and benchmarks start: Redis, Sentinel, PostgreSQL, nginx, Chromium, curl, wrk, promtool (apt-get)
	@.ci/services

lock: ## Pin anew what pyproject.toml and bench/requirements.in allow (needs uv on PATH); pins that still fit stay
	@for lock in requirements:pyproject.toml requirements-dev:'--extra dev -c requirements.lock pyproject.toml' \
		requirements-build:'--group build' requirements-audit:'--group audit' bench/requirements:bench/requirements.in \
		bench/requirements-older:bench/requirements-older.in; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
			-o "$${lock%%:*}.lock" $${lock#*:} || exit 1; done

audit: .venv-audit/requirements-audit.installed ## Look for known vulnerabilities in the pinned packages (asks the network)
	@.venv-audit/bin/python -m pip_audit --disable-pip --require-hashes --strict \
		-r requirements.lock -r requirements-dev.lock -r requirements-build.lock

# Installed anew only when something that decides what is installed has changed.
INSTALL := requirements-build.lock pyproject.toml .ci/install

# $(1) is the folder of an environment, $(2) the lock, $(3) the project's folder where it is installed too.
define install
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo 'Python 3.11 or newer is needed; PYTHON=/path/to/python make ... names one.' >&2; exit 1; }
	@test -x $(1)/bin/python || "$(PYTHON)" -m venv --clear $(1) || { rm -rf $(1); \
		echo 'No environment was made: on Debian and Ubuntu, apt-get install python3-venv.' >&2; exit 1; }
	@echo 'Installing $(2) into $(1); this happens once, and again when the file changes.'
	@.ci/install $(1)/bin/python $(2) $(3)
	@touch $@
endef

$(VENV)/%.installed: %.lock $(INSTALL)
	$(call install,$(VENV),$<,.)

.venv-audit/%.installed: %.lock $(INSTALL)
	$(call install,.venv-audit,$<)

# The peers never share an environment with the service.
bench/.venv/%.installed: bench/%.lock $(INSTALL)
	$(call install,bench/.venv,$<)

bench/.venv-older/%.installed: bench/%.lock $(INSTALL)
	$(call install,bench/.venv-older,$<)
