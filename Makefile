# The main commands: `make perf` measures, `make test` tests. Each installs what it needs, once. `make quick` is for the work
# in between: see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUDGET ?= 10

PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

.PHONY: perf ranks test lint pytest slow long quick docs asv asv-history asv-site cuda ci-dry-run calibrate peers tracks mutants faults detectors objects screenshots page-library clean

perf: $(STAMP)
	$(BIN)/python -m pytest --loaderperf --loaderperf-budget=$(BUDGET) --loaderperf-json=.loaderperf/result.json \
		--loaderperf-html=.loaderperf/report.html suites/perf

# A minute on four cores: the same at several ranks, which torchrun starts. Another number of them: make ranks RANKS=8
RANKS ?= 4
ranks: $(STAMP)
	$(BIN)/python -m torch.distributed.run --standalone --nproc-per-node=$(RANKS) -m pytest --loaderperf \
		--loaderperf-budget=2 --loaderperf-json=.loaderperf/ranks.json suites/perf

# Both at once: checking the types takes one core for half a minute.
test: $(STAMP)
	$(MAKE) --no-print-directory -j2 lint pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal
pytest: $(STAMP)
	$(PYTEST) -m "not long and not slow"

# Whole runs, of seconds each, whose parts make test tests as well, and what torch's DataLoader does: before a push, and in CI.
slow: $(STAMP)
	$(PYTEST) -m "slow and not long" $$(grep -rlE --include="test_*.py" "mark\.slow|first_quickly" tests) tests/loader/drop_in

# Minutes: tests with a cluster of Ray, training jobs, hosts of their own, before a release and where these parts change.
long: $(STAMP)
	$(BIN)/python -m pytest -m long

# Under a minute: lint, types, and the tests of what changed, as many as 35 s allow. Since another commit: make quick BASE=HEAD~2
quick: lint
	$(BIN)/python -m tests.of_changes $(BASE)

# The documentation as a site, with the API from docstrings: docs/_build/html/index.html
docs: $(STAMP)
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

# A quarter of an hour: measures HEAD with the interpreter of .venv, and makes the page. Under two minutes, a few cases, nothing
# kept: make asv QUICK=1. Other commits: make asv-history COMMITS=10
ASV := $(BIN)/asv run --python=same
COMMITS ?= 10
asv: $(STAMP)
	$(BIN)/python -m suites.dashboard.machine
ifdef QUICK
	LOADERPERF_ASV_QUICK=1 $(ASV) --dry-run --bench "(, 32, .*'cpu'|'vectors', 'cpu'|'whole'|'npy'(, 'pre-loaded')?)\)"
else
	git diff --quiet HEAD || { echo "Files differ from HEAD, whose results these would be: commit first." >&2; exit 1; }
	$(ASV) --show-stderr --set-commit-hash=$$(git rev-parse HEAD)
	$(MAKE) asv-site
endif

asv-history: $(STAMP)
	$(BIN)/python -m suites.dashboard.machine
	$(BIN)/python -m suites.dashboard.fill $(COMMITS) $(if $(QUICK),--quick)
	$(MAKE) asv-site

# A page in .asv/html that needs no network, but http: .venv/bin/python -m http.server --directory .asv/html
asv-site: $(STAMP)
	$(BIN)/asv publish --no-pull --html-dir=.asv/html
	$(BIN)/python -m suites.dashboard.site .asv/html

# On a machine with a GPU: the tests that need one, its limits, and the measurement there.
cuda: $(STAMP)
	$(BIN)/python -m pytest -m cuda tests
	$(BIN)/python -m pytest -s suites/cuda
	$(BIN)/python -m pytest --loaderperf --loaderperf-device=cuda --loaderperf-budget=$(BUDGET) \
		--loaderperf-json=.loaderperf/cuda.json suites/perf

# Minutes: the action, the workflows and the examples of docs/github-actions.md, run here as GitHub Actions runs them, on a
# repository made for it. What they write is in .loaderperf/ci-dry-run.
ci-dry-run: $(STAMP)
	$(BIN)/python -m suites.actions

# Hours, on an otherwise idle machine: claims whose correct verdict is known, under a noise load. Two workers are last: their
# curve is drawn with that of inline loaders. To choose the number of claims: make calibrate CLAIMS=100
CLAIMS ?= 50
CALIBRATE = $(BIN)/loaderperf calibrate --noise --claims $(CLAIMS)
calibrate: $(STAMP)
	mkdir -p .loaderperf
	$(CALIBRATE) --json .loaderperf/calibrate-inline.json --plot .loaderperf/calibrate-inline.svg
	$(CALIBRATE) --threads 2 --bursts --budget 20 --seconds 5,10,20 --effects 0,2,5,10,100 \
		--json .loaderperf/calibrate-bursts.json --plot .loaderperf/calibrate-bursts.svg
	$(CALIBRATE) --workers 2 --batch-ms 3 --handover --budget 20 --seconds 3,5,10,20 --effects 0,1,2,3,5,7,10,100 \
		--json .loaderperf/calibrate-workers.json --beside .loaderperf/calibrate-inline.json --plot docs/calibration.svg
	DEMO_TIMES=20 $(BIN)/python -m pytest suites/calibration

# Minutes: other libraries' loaders and ours, each in its own process, in turns.
peers: $(PEERS_STAMP)
	$(PEERS)/bin/python -m suites.peers --plot docs/peers.svg

# Minutes: every format on disk and every cache, before and after pre-load. Makes missing data.
tracks: $(STAMP)
	$(BIN)/python -m suites.tracks --plot .loaderperf/tracks.svg

# Hours for 20,000 of each format: damaged files, read in child processes. Status 1 if one gives wrong rows, a foreign error or
# no end. For fewer: make mutants MUTANTS=500
MUTANTS ?= 20000
mutants: $(STAMP)
	$(BIN)/python -m suites.mutants --count $(MUTANTS)

# Half an hour: loaders with one mistake each, and their fixed twins. Status 1 if the doctor misses more than 5 % of the mistakes,
# or finds one in a fixed twin. For counts in repeats: make faults REPEATS=20
REPEATS ?= 1
faults: $(STAMP)
	$(BIN)/python -m suites.faults --repeats $(REPEATS)

# A minute, with chromium: the pictures of the documentation, docs/*.png.
screenshots: $(STAMP)
	$(BIN)/python -m suites.screenshots

# Minutes: tables of an object store beside plain parallel range reads, on a local server with latency.
objects: $(STAMP)
	$(BIN)/python -m suites.objects

# The charting library of the report page, from npm. After an update, the hashes in tests/report/test_page.py change as well.
VENDOR := pytest_loaderperf/report/page/vendor
page-library:
	cd $(VENDOR) && npm pack --silent d3@7.9.2 @observablehq/plot@0.6.17
	cd $(VENDOR) && tar -xzOf d3-*.tgz package/dist/d3.min.js > d3.min.js && tar -xzOf d3-*.tgz package/LICENSE > d3.LICENSE
	cd $(VENDOR) && tar -xzOf observablehq-plot-*.tgz package/dist/plot.umd.min.js > plot.umd.min.js
	cd $(VENDOR) && tar -xzOf observablehq-plot-*.tgz package/LICENSE > plot.LICENSE
	rm $(VENDOR)/*.tgz
# Minutes: which detectors find steps across commits, and how many false ones, as in docs/history.md.
detectors: $(STAMP)
	$(BIN)/python -m suites.history

# torch is installed first, with its own version, so that no other package chooses a build of several gigabytes. Another torch, in
# an environment of its own: make pytest VENV=.venv-oldest TORCH=torch==2.6.0
TORCH ?= -r requirements/torch.txt
# Without this variable pytest caches rewritten modules, which makes its many sub-sessions faster.
unexport PYTHONDONTWRITEBYTECODE

$(STAMP): requirements/torch.txt requirements/dev.txt requirements/ome-arrow.txt requirements/neighbours.txt requirements/trainers.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/ome-arrow.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/neighbours \
		-r requirements/neighbours.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/trainers \
		-r requirements/trainers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

# --no-deps: the list of versions is complete, and LitData would install torchvision.
$(PEERS_STAMP): requirements/torch.txt requirements/dev.txt requirements/peers.txt pyproject.toml
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/peers.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(PEERS_STAMP)

clean:
	rm -rf $(VENV) $(PEERS) .loaderperf .asv docs/_build
