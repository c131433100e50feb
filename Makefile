# The commands that people use. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help install up test engine fast postgresql postgresql-tests lint format types migrations lock ci

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Install Flotilla and its tools, in the locked versions
	pip install --require-hashes -r requirements-dev.lock
	pip install --no-deps -e .
	npm ci --prefix .ci/web --no-audit --no-fund

up: ## Start the whole hub with the demonstration
	python manage.py up --demo

test: ## Run every test that this machine can run
	pytest

engine: ## Run the tests of the pure engine
	pytest tests/engine

fast: ## Run what needs no control plane, server or browser
	pytest $(WITHOUT_SERVERS)

postgresql: ## Run what depends on the database on PostgreSQL (in HUB_DATABASE_URL)
	HUB_TEST_DATABASE_ONLY=1 pytest $(WITHOUT_SERVERS) $(WITH_DATABASE)

postgresql-tests: ## Choose these tests again, by what each of all tests sends PostgreSQL
	rm -rf $(RECORDING)
	HUB_TEST_DATABASE_ONLY=1 HUB_TEST_STATEMENTS=$(RECORDING) pytest $(WITHOUT_SERVERS) $(WITH_DATABASE)
	PYTHONPATH=.:tests python -m support.statements $(RECORDING)

WITHOUT_SERVERS = -m "not controlplane and not services and not browser"
WITH_DATABASE = tests/hub tests/clusters tests/projects tests/appsets
RECORDING = $(CURDIR)/.pytest_cache/statements

lint: ## Check format, lint rules and import contracts
	ruff format --check .
	ruff check .
	djangofmt --check --quiet templates
	djangofmt check templates
	.ci/web/node_modules/.bin/biome check --config-path=.ci/web hub/static
	.ci/web/node_modules/.bin/tsc -p .ci/web
	lint-imports

format: ## Format the code and apply safe fixes
	ruff format .
	ruff check --fix .
	djangofmt --quiet templates
	djangofmt check --fix templates
	.ci/web/node_modules/.bin/biome check --config-path=.ci/web --write hub/static

types: ## Check types
	mypy

migrations: ## Write the migrations that changed models need
	python manage.py makemigrations

lock: ## Resolve the dependencies again (needs uv)
	uv pip compile pyproject.toml --extra keyring $(LOCK) -o requirements.lock
	uv pip compile pyproject.toml --extra dev $(LOCK) -o requirements-dev.lock

LOCK = --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

ci: ## Run everything that CI runs (installs servers and a browser)
	.ci/run
