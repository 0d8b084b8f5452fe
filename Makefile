PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check-long bench clean

$(VENV)/ready: setup.cfg constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "genomic_vit needs Python 3.11 or newer, found " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/python -m genomic_vit.train --mode joint --out runs/demo --overwrite

test: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --durations 10

check-long: $(VENV)/ready
	$(BIN)/python -m pytest -m long --durations 0 -rP

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.rollout op step
	$(BIN)/python -m benchmarks.scans
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.preparing

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
