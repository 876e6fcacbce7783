# make try | reproduce | test | ui | help
PYTHON ?= python3
VENV ?= .venv
PORT ?= 5000
PROFILE ?=
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
COMPILE := uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet
PYTEST = OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TRY = python -m pipeline.train results=first_look/results/$(1)/numpy
# A zip of the sources has no .git.
WITHOUT_GIT = test -e .git || python -m dvc config --local core.no_scm true
# uv is faster than pip, but does not know every setting of pip, such as a mirror: where it fails, pip tries.
INSTALL = { command -v uv >/dev/null && uv pip install --python $(VENV)/bin/python --require-hashes -r $(1); } || \
	$(VENV)/bin/python -m pip install --disable-pip-version-check --require-hashes -r $(1)
export PATH := $(abspath $(VENV))/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: try reproduce study test examples check ui rebuild clean faults bench cluster server load lock help

# The short grid is a study of its own: it must not take the place of the full one in MLflow.
try: $(VENV)/.installed ## take a first look at three studies, in first_look/; the last one downloads MNIST
	$(call TRY,line_y3x) experiment=line_y3x
	$(call TRY,three_bits) experiment=three_bits
	@test -e data/prepared/mnist || { $(WITHOUT_GIT); python -m dvc repro prepare@mnist; } || true
	@! test -e data/prepared/mnist || \
		$(call TRY,first_look_mnist_grid) study=first_look_mnist_grid experiment=mnist_grid profile=small repeats=1
	@python -m pipeline.compare results=first_look/results reports=first_look/report by_hand=false >/dev/null
	@echo
	@echo "The report is first_look/report/README.md. To look at the runs: make ui"
	@test -e data/prepared/mnist || { echo "error: mnist_grid is left out: no MNIST, see above; try again: make try" >&2; exit 1; }

reproduce: $(VENV)/.installed ## fetch MNIST, train every study on both backends, write the report (PROFILE=small: cut short)
	@test -z "$(PROFILE)" -o -e conf/profile/$(PROFILE).yaml || { echo "error: no conf/profile/$(PROFILE).yaml; try make reproduce PROFILE=small" >&2; exit 1; }
	@test -z "$(PROFILE)" || { sed -i.before 's/^profile: [^ ]*/profile: $(PROFILE)/' conf/pipeline.yaml && rm conf/pipeline.yaml.before; }
	@$(WITHOUT_GIT)
	@if ! test -e results/line_y3x && python -m dvc repro page@line_y3x; then printf '\n%s\n%s\n\n' \
		"The first page is there: reports/studies/line_y3x.md. To look at its runs, type in another terminal: make ui" \
		"The other studies follow, then reports/README.md."; fi
	@python -m dvc repro --keep-going
	@python -m pipeline.rebuild
	@echo
	@python -m pipeline.compare committed=true
	@echo
	@echo "The report is reports/README.md. To look at the runs: make ui"

study: $(VENV)/.installed ## write the file of a new study to start from (NAME=churn DATA=churn, a file in conf/data/)
	@test -n "$(NAME)" -a -n "$(DATA)" || { echo "error: name both: make study NAME=churn DATA=churn" >&2; exit 1; }
	@python -m pipeline.study 'name="$(NAME)"' data='$(DATA)'

test: $(VENV)/.installed ## run the tests (TESTS=tests/points, or any option of pytest)
	@$(PYTEST) $(TESTS)

examples: $(VENV)/.installed ## run the property tests on new examples (SEED=1234)
	@echo "New examples for the property tests. To try the same ones again: make examples SEED=$(SEED)"
	@$(PYTEST) -m hypothesis --hypothesis-profile=new --hypothesis-seed=$(SEED) $(TESTS)

check: $(VENV)/.installed ## lint, format, types, and which module imports which
	@python -m ruff check .
	@python -m ruff format --check .
	@python -m mypy
	@lint-imports --no-logo

ui: $(VENV)/.installed ## open the runs in MLflow on 127.0.0.1 (PORT=5000; behind a proxy: UI_PROXY=URL)
	@python -m pipeline.ui --port $(PORT)$(if $(UI_PROXY), --proxy '$(UI_PROXY)')$(if $(filter true,$(STRIPS_PATH)), --strips-path)

rebuild: $(VENV)/.installed ## write to MLflow what is on disk and not there
	@python -m pipeline.rebuild

clean: $(VENV)/.installed ## take a study away, after saying what goes (STUDY=three_bits CONFIRM=true)
	@test -n "$(STUDY)" || { echo "error: name a study: make clean STUDY=three_bits" >&2; exit 1; }
	@python -m pipeline.remove study=$(STUDY) confirm=$(or $(CONFIRM),false)

faults: $(VENV)/.installed ## kill the pipeline 25 times and compare with one left alone, four minutes (KILLS=25)
	@python -m tests.support.kills --kills $(or $(KILLS),25)

bench: $(VENV)/.installed ## measure each figure beside its goal, over an hour (ONLY="three_bits growth" ROUNDS=5)
	@python -m benchmarks --rounds $(or $(ROUNDS),5) $(if $(ONLY),--only $(ONLY))

server: $(VENV)/.cluster ## serve MLflow to a team, on PostgreSQL: deploy/README.md (PORT=5000)
	@python -m pipeline.server --port $(PORT)

load: $(VENV)/.cluster ## load a tracking server with 32 writers: 2,000 runs of 1,000 values, 12 minutes (LOAD="--sweep")
	@python -m benchmarks.tracking_load $(LOAD)

lock: $(VENV)/.installed ## renew requirements.lock and requirements-cluster.lock from pyproject.toml
	@$(COMPILE) --group services --extra cluster --extra s3 --extra server --upgrade -o requirements-cluster.lock
	@$(COMPILE) --constraint requirements-cluster.lock --output-file requirements.lock

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

cluster: $(VENV)/.cluster ## install what other launchers, a tracking server and S3 need beside it

$(VENV)/.cluster: $(VENV)/.installed requirements-cluster.lock
	@echo "Installing the locked packages of the extras cluster, server and s3 into $(VENV)"
	@$(call INSTALL,requirements-cluster.lock)
	@touch $@

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
		f"error: this needs Python 3.11 to 3.13, {sys.executable} is {sys.version.split()[0]}; try make PYTHON=python3.12 ...")'
	@echo "Installing the locked packages into $(VENV): 3 GB"
	@$(PYTHON) -m venv $(VENV)
	@$(call INSTALL,requirements.lock)
	@touch $@
