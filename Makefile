# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
unexport PYTHONDONTWRITEBYTECODE  # tests start many processes, each of which would compile anew

.PHONY: demo test test-lowest lint doctests albumentationsx clean

demo: $(VENV)/.installed
	rm -rf demo
	$(BIN)/expraug expand examples/faces demo/faces --alignment detect --with-originals
	$(BIN)/expraug preview examples/faces demo/contact_sheet.png --alignment detect --faces-shown 20
	@echo "Expanded set: demo/faces    Contact sheet: demo/contact_sheet.png"

test: $(VENV)/.installed .albumentationsx/.installed
	$(MAKE) --no-print-directory --jobs 2 albumentationsx lint doctests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The lowest versions that pyproject.toml allows, on the lowest Python: what its bounds say is true.
LOWEST := .venv-lowest
LOWEST_PYTHON ?= python3.10

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider tests --ignore tests/recipes --ignore tests/cuda

$(LOWEST)/.installed: pyproject.toml
	rm -rf $(LOWEST)
	$(LOWEST_PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	  --editable ".[albumentations,detect,datasets,train,plots,video]" \
	  'pytest>=8' 'pytest-timeout>=2.3' 'hypothesis>=6.100'
	touch $@

albumentationsx: .albumentationsx/.installed
	PYTHONPATH=.albumentationsx ALBUMENTATIONS_OFFLINE=1 $(BIN)/python -m pytest -p no:cacheprovider \
	  tests/transforms/test_albumentations.py tests/clients/test_albumentations_pipelines.py -k 'not spawned'

doctests: $(VENV)/.installed
	$(BIN)/python -m pytest --doctest-modules --doctest-ignore-import-errors expraug

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs notebooks wheels release-check clean-built

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html; with a server: $(BIN)/python -m http.server -d site"

notebooks: $(VENV)/.docs
	$(BIN)/python docs/notebooks/execute.py

# The core, and the weights that are not the default's: docs/weights.md.
wheels: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --wheel --outdir dist expraug/weights

# Wheels, description, links, sizes; with TAG=v1.2.3, also that version and changelog say so.
release-check: wheels
	$(BIN)/python -m twine check --strict dist/*
	RELEASE_CHECK=1 TAG=$(TAG) $(BIN)/python -m pytest tests/release

clean: clean-built

clean-built:
	rm -rf dist site docs/pictures

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev,docs]"
	touch $@

$(VENV)/.release: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev,release]"
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $@

# AlbumentationsX takes the same import name as albumentations, so it lives in a folder of its own
# that is put in front of the path. The pins are those of its own metadata.
.albumentationsx/.installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .albumentationsx albumentationsx==2.5.1 albucore==0.2.21 'numkong>=7.8'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) .albumentationsx demo
