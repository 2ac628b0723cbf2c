# make demo: from nothing to a planning agent.   make test: the tests.   Both install into .venv first, once.

# The interpreter that .venv is made with; PYTHON=... names another. A pyenv shim may stand for a version that is not
# there, so each candidate is asked.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
DOCS := .venv/.docs
RELEASE := .venv/.release
# Debian's package dataset-fashion-mnist; without it scikit-learn's digits serve.
IMAGES := $(if $(wildcard /usr/share/datasets/fashion-mnist),,run=runs/images_digits images.data=digits)

.PHONY: help demo images images-table test test-slow test-peer lint docs page pictures dist try-wheel clean

help:
	@echo 'make demo       collect, train, probe and plan on reacher: about 8 minutes on two cores'
	@echo 'make images     pretrain an encoder on Fashion-MNIST without labels and probe it: 20 minutes on two cores'
	@echo 'make images-table  shorter ones beside rival losses, in three seeds each: 75 minutes, taken up where it stopped'
	@echo 'make test       the tests: at most 10 minutes'
	@echo 'make test-slow  the long ones'
	@echo 'make test-peer  files to and from stable-worldmodel: PEER_PYTHON names an interpreter that has it'
	@echo 'make lint       ruff and mypy'
	@echo 'make docs       the pages of docs/ and the API as a site, in site/'
	@echo 'make page       the tables of the pages that stand on results/, and docs/results.md with its curves'
	@echo 'make pictures   those of the pages that the package alone can draw'
	@echo 'make dist       a release, sources and wheel, in dist/, looked over by twine'
	@echo 'make try-wheel  that wheel alone in an environment of its own, outside the clone: collects, trains, plans'
	@echo 'make clean      remove .venv and what building and testing leave; data/ and runs/ stay'

demo: $(INSTALLED)
	$(BIN)/worldjepa doctor
	$(BIN)/worldjepa collect reacher
	$(BIN)/worldjepa train reacher train.minutes=4.5
	$(BIN)/worldjepa probe runs/reacher probe.seeds=1
	$(BIN)/worldjepa plan runs/reacher

images: $(INSTALLED)
	$(BIN)/worldjepa train images_cpu $(IMAGES)
	$(BIN)/worldjepa probe $(or $(patsubst run=%,%,$(filter run=%,$(IMAGES))),runs/images_cpu)

images-table: $(INSTALLED)
	$(BIN)/python scripts/images_table.py

test: $(INSTALLED)
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow

test-peer: $(INSTALLED)
	@test -n '$(PEER_PYTHON)' || { echo 'make: name an interpreter with stable-worldmodel, h5py and hdf5plugin: PEER_PYTHON=/path/to/python' >&2; exit 1; }
	PEER_PYTHON='$(PEER_PYTHON)' $(BIN)/pytest -m slow tests/test_peer.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Links from the pages to code lead to copies of it.
docs: $(DOCS)
	$(BIN)/mkdocs build --strict
	tar -c --exclude=__pycache__ worldjepa envs configs scripts tests results *.md *.toml Makefile LICENSE | tar -x -C site

page: $(INSTALLED)
	$(BIN)/python scripts/page.py

pictures: $(INSTALLED)
	$(BIN)/python scripts/pictures.py

dist: $(RELEASE)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

# Nothing of the clone and none of its dependencies: what the wheel asks for has to be enough.
try-wheel: dist
	@set -e; trial=$$(mktemp -d); trap 'rm -rf "$$trial"' EXIT; set -x; \
	$(PYTHON) -m venv "$$trial/venv"; \
	"$$trial/venv/bin/pip" install --quiet --constraint constraints.txt dist/*.whl; \
	cd "$$trial"; \
	for words in 'collect smoke' 'train smoke' 'plan runs/smoke' 'plan reacher-pretrained plan.goals=10'; do \
		venv/bin/worldjepa $$words; \
	done

# The stamp is written last: an installation that fails half-way is taken up again. setuptools is installed, in its
# tested version too, rather than fetched into an isolated build.
$(INSTALLED): pyproject.toml constraints.txt
	@rm -f $@
	@test -n '$(PYTHON)' || { echo 'make: no Python 3.11 or 3.12 here; install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { echo 'make: PYTHON=$(PYTHON) must be Python 3.11 or 3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'make: $(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade setuptools
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

$(DOCS): EXTRA := docs
$(RELEASE): EXTRA := release
$(DOCS) $(RELEASE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[$(EXTRA)]'
	@touch $@

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
