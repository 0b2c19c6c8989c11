# Everything starts here. On a fresh Debian or Ubuntu: git, make and python3 (3.11 or later) are enough.
#
#   make test     install what the tests need, check the code, run all tests
#   make demo     sample agencies, real mail servers, Wasl between them (ONCE=1: end after the table)
#   make bench    Wasl and its peer measured in turn on this machine
#   make lint     ruff and mypy alone
#   make lock     pin the Python packages anew (needs uv)

.DEFAULT_GOAL := help
.PHONY: help setup test demo bench lint lock clean
PYTHON := .venv/bin/python
CODE := tracker policies dashboard gateway tests bench deploy
# Mail servers change user, so whoever starts them must be root.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
export PYTHONDONTWRITEBYTECODE = 1

help:
	@sed -n 's/^#   //p' Makefile

setup:
	@deploy/setup.sh test

lint:
	@deploy/setup.sh lint
	@$(PYTHON) -m ruff check $(wildcard $(CODE))
	@$(PYTHON) -m ruff format --check $(wildcard $(CODE))
	@$(PYTHON) -m mypy

test: setup lint
	@$(ROOT) $(PYTHON) -m pytest -n 2 --dist loadfile -q $(if $(ROOT),-p no:cacheprovider) $(TESTS)

demo:
	@deploy/setup.sh demo
	@$(PYTHON) -m deploy.demo $(if $(ONCE),--once)

bench:
	@deploy/setup.sh bench
	@$(ROOT) $(PYTHON) -m bench $(BENCH)

lock:
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header -q -o requirements.txt

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache build *.egg-info
