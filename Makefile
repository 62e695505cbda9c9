# make demo | test | soak | check | bench | docs. Needs make and Python 3.11 or newer; everything else goes into .venv.
# Another Python: make PYTHON=python3.12
# The small CPU build of torch on Linux: make PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test soak check bench docs
.DEFAULT_GOAL := test

demo: $(READY)
	$(BIN)/cosmeans demo --force

# lines of the GPU backend are not counted: tracing the interpreter of its kernels would double the time of the tests
test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/backends/gpu
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/backends/gpu --cov --cov-report=term:skip-covered --cov-fail-under=90

# what takes long: whole matrices, worst cases, tables of memory, kills, fuzzing; its closing lines belong into the record
soak: $(READY)
	$(BIN)/python -m pytest -m soak --durations=10 tests

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# the two variables slow NumPy's products down where they are set
bench: $(READY)
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/cpu.py

# the pages and the reference, from the docstrings, into build/docs
docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open build/docs/index.html"

.venv/ready-docs: $(READY)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --group docs
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Needed is Python 3.11 or newer, but '$(PYTHON)' is older or missing. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' comes without venv or pip. On Debian and Ubuntu: apt install python3-venv python3-pip" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --group dev -e ".[all]"
	@touch $@
