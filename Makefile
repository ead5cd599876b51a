# The book, from a fresh clone: needs Python >= 3.11, make and a package index; everything else goes into .venv.
#   make book      execute what changed, build the site, print its address and the claims   (PROFILE=paper, smoke)
#   make test      all tests but those that take minutes; make test-full runs these too, and on new random examples
#   make lab       JupyterLab on the notebooks;  make serve: the built site on this machine
# A machine without GPU can take the small CPU build of torch:
#   make book TORCH_INDEX=https://download.pytorch.org/whl/cpu

PROFILE ?= quick
PORT ?= 8000
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-book-test
# The first Python that is new enough and can make virtual environments; the oldest is the one tested most.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$p"; break; }; done)

.PHONY: book test test-full lint lab serve sweep bench environment clean distclean
.DELETE_ON_ERROR:

book: $(READY)
	@$(BIN)/learndyn book --profile $(PROFILE)

test: $(READY)
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not full and not slurm"

test-full: $(READY)
	@$(BIN)/python -m pytest -q --hypothesis-profile=explore

lint: $(READY)
	@$(BIN)/ruff check .

# A double click opens a notebook's script as a notebook, in this environment only.
lab: $(READY)
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@printf '%s\n' '{"@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"python": "Jupytext Notebook"}}}' \
		> $(VENV)/share/jupyter/lab/settings/overrides.json
	@$(BIN)/jupyter lab --notebook-dir=book

serve: $(READY)
	@test -f _build/$(PROFILE)/html/index.html || { echo "There is no built site yet; run: make book"; exit 1; }
	@echo "http://127.0.0.1:$(PORT)/ (Ctrl-C ends it)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/$(PROFILE)/html $(PORT)

sweep: $(READY)
	@test -n "$(SWEEP)" || { echo "Name the sweep, for example: make sweep SWEEP=sweeps/cogo.yaml"; exit 1; }
	@$(BIN)/learndyn sweep $(SWEEP)

bench: $(READY)
	@$(BIN)/python benchmarks/cogo.py
	@$(BIN)/python benchmarks/stepwise.py
	@$(BIN)/python benchmarks/scan_snap.py

environment: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed, and none was found."; exit 1; }
	@echo "Installing into $(VENV) with $(PYTHON); the first time this takes some minutes."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@test -z "$(TORCH_INDEX)" || $(BIN)/python -m pip install -q -c constraints.txt --index-url "$(TORCH_INDEX)" torch
	@$(BIN)/python -m pip install -q -c constraints.txt -e ".[book,test]"
# matplotlib lists this machine's fonts once; where that takes long, it would say so on the page of a notebook.
	@$(BIN)/python -c "import matplotlib.font_manager"
	@touch $@

# Results of paper-scale runs (results/) are never removed.
clean:
	rm -rf _build .snakemake

distclean: clean
	rm -rf $(VENV)
