# make demo | test | soak | check | bench | docs. Needs make and Python 3.11 or newer; everything else goes into .venv.
# Another Python: make PYTHON=python3.12
# The small CPU build of torch on Linux: make PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# uv installs where it is found; make UV= leaves that to pip, which reads its own settings.
PYTHON ?= python3
PIP_ARGS ?=
UV ?= $(shell command -v uv)
BIN := .venv/bin
DEMO := .venv/ready-demo
READY := .venv/ready
# constraints.txt holds for every installation: what one step has installed, the next leaves as it is
INSTALL = $(if $(UV),"$(UV)" pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)
INSTALL += $(PIP_ARGS) -c constraints.txt
TIMED = start=$$(date +%s); finish() { echo "$$1 in $$(($$(date +%s) - start)) seconds."; }

.PHONY: demo test soak check bench docs
.DEFAULT_GOAL := test

demo: $(DEMO)
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
	$(INSTALL) --group docs
	@touch $@

# what tests need comes on top of what the demo needs
$(READY): $(DEMO)
	@echo "Installing what tests need, on top: linters, Triton, a compiler for GPUs and others, 2 GB more. It takes one to five minutes."
	@$(TIMED); set -e; \
	  $(if $(UV),:,$(BIN)/python -m pip install $(PIP_ARGS) --upgrade "pip>=25.1"); \
	  $(INSTALL) --group dev -e ".[all]"; \
	  finish Installed
	@touch $@

$(DEMO): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, but '$(PYTHON)' is older or missing. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(if $(UV),:,$(PYTHON) -c 'import ensurepip, venv') || { \
	  echo "'$(PYTHON)' comes without venv or pip. On Debian and Ubuntu: apt install python3-venv python3-pip" >&2; exit 1; }
	@echo "Installing what the demo needs into .venv with $(if $(UV),uv,pip): torch, scikit-learn, numba, matplotlib and others."
	@echo "1.7 GB with the CPU build of torch, 6 GB with the build for NVIDIA GPUs. It takes one to five minutes."
	@$(TIMED); set -e; \
	  $(if $(UV),"$(UV)" venv --allow-existing --seed --python "$(PYTHON)" .venv,$(PYTHON) -m venv .venv); \
	  $(INSTALL) -e ".[cli,plot,report,tables]"; \
	  finish Installed
	@touch $@
