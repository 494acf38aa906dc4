# make demo   set everything up; build, prove and ship the demo model, and decode with it
# make test   every test
# make check  formatting and lints
# make check-apple  type-checks what only Apple systems compile, on Debian
# make check-arm    the kernels' tests on emulated ARM machines, on Debian
# make doc    the API documentation
# make bench  the kernels' benchmarks
# make bench-peers  everything in docs/performance.md again, against llama.cpp, coremltools, gguf-py and cp (takes an hour or so, and
#             30 GB of disk under target/bench; builds llama.cpp first, as make oracle does)
# make oracle asks llama.cpp about the demo model again (builds it first: about ten minutes)

# Any of Python 3.10 to 3.13 with its shared library (Debian: python3-dev, python3-venv).
PYTHON ?= python3
VENV := .venv
ORACLE := .venv-oracle
export PYO3_PYTHON := $(CURDIR)/$(VENV)/bin/python
ANEPIPE := target/release/anepipe
RUFF := $(VENV)/bin/ruff
# Tests reach graphs with known faults through this feature; a release never has it.
TEST_FEATURES := --features fault-injection

# A compiler with the sources of its library beside it, which is what checking for a target without a library takes. Debian has one;
# that of rustup has no sources without a further download.
APPLE_TOOLS ?= /usr/bin
APPLE_SOURCES := /usr/lib/rustlib/src/rust/library

.PHONY: setup setup-dev build demo test check check-apple check-arm fmt doc bench bench-bundle bench-peers oracle clean

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev

$(VENV)/.runtime: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 10) <= v[:2] <= (3, 13))' \
	  || { echo "anepipe needs Python 3.10 to 3.13; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sysconfig as s, sys; sys.exit(not any(map(s.get_config_var, ("Py_ENABLE_SHARED", "PYTHONFRAMEWORK"))))' \
	  || { echo "$(PYTHON) has no shared library to embed; on Debian: apt-get install python3-dev"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

build: setup
	cargo build --release --locked

demo: build
	$(ANEPIPE) build --out out
	$(ANEPIPE) gate parity --bundle out
	$(ANEPIPE) generate --bundle out --max-new 64 -v --prompt 'class Point:'

test: setup-dev
	cargo test --workspace --locked $(TEST_FEATURES)

check: setup-dev
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(TEST_FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked
	$(RUFF) format --check python benches models/*.py
	$(RUFF) check python benches models/*.py

# Nothing is linked, so the C compiler and the archiver that a dependency asks for need not know the target.
check-apple: setup
	@test -x $(APPLE_TOOLS)/rustc -a -x $(APPLE_TOOLS)/cargo -a -d $(APPLE_SOURCES) \
	  || { echo "checking for Apple takes Debian's compiler and its sources: apt-get install rustc-web cargo-web rust-web-src"; exit 1; }
	@$(APPLE_TOOLS)/rustc --version
	RUSTC=$(APPLE_TOOLS)/rustc RUSTC_BOOTSTRAP=1 CARGO_BUILD_WARNINGS=deny PYO3_CROSS_PYTHON_VERSION=3.12 \
	  CC_aarch64_apple_darwin=true AR_aarch64_apple_darwin=true MACOSX_DEPLOYMENT_TARGET=15.0 \
	  $(APPLE_TOOLS)/cargo check --package anepipe --package anepipe-runtime --locked --target-dir target/apple \
	  -Zbuild-std=std,panic_abort -Zwarnings --target aarch64-apple-darwin

# The same compiler builds its library and the kernels' tests for Linux on ARM; QEMU runs them as a machine that has every instruction
# the kernels know, as one without matrix products, and as one with NEON alone. Only what is tested is optimized.
ARM_TEST = RUSTC=$(APPLE_TOOLS)/rustc RUSTC_BOOTSTRAP=1 CARGO_BUILD_WARNINGS=deny CARGO_PROFILE_DEV_DEBUG=false \
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu $(1)" ANEPIPE_KNOWN_SETS="$(2)" \
  $(APPLE_TOOLS)/cargo test --package anepipe-kernel-tests --lib --locked --target-dir target/arm \
  -Zbuild-std=std,panic_unwind,test -Zwarnings --target aarch64-unknown-linux-gnu \
  --config 'profile.dev.package."*".opt-level=0' -- --quiet

check-arm:
	@test -x $(APPLE_TOOLS)/rustc -a -x $(APPLE_TOOLS)/cargo -a -d $(APPLE_SOURCES) \
	  && command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null \
	  || { echo "checking for ARM takes Debian's compiler, its sources, a linker and QEMU: apt-get install" \
	    "rustc-web cargo-web rust-web-src gcc-aarch64-linux-gnu qemu-user"; exit 1; }
	@$(APPLE_TOOLS)/rustc --version
	$(call ARM_TEST,max,baseline neon neon-i8mm)
	$(call ARM_TEST,neoverse-n1,baseline neon)
	$(call ARM_TEST,cortex-a72,baseline)

fmt: setup-dev
	cargo fmt --all
	$(RUFF) format python benches models/*.py
	$(RUFF) check --fix python benches models/*.py

doc: setup
	cargo doc --workspace --no-deps --open

bench: setup
	cargo bench --workspace --locked

BENCH := target/bench
FULL := $(BENCH)/full_size
DEMO := $(BENCH)/demo
STORIES := $(BENCH)/stories
# Real models that are not part of the repository; what needs them is left out where they are not.
ANEPIPE_SHARED ?= ../shared
STORIES_MODEL := $(wildcard $(ANEPIPE_SHARED)/models/stories260K-llama-q8_0.gguf)
PEERS := benches/peers
PROMPTS := models/prompts.jsonl

# A store of its own, for one build; a bundle's files are its own once the store is gone. They are dated 1980, so another file says when
# it was built.
$(FULL).gguf: | build
	mkdir -p $(BENCH)
	cargo run --release --locked -p anepipe-testkit -- synth --preset phi-4-mini --out $@

$(FULL).done: $(FULL).gguf benches/full_size.toml | build
	$(ANEPIPE) --config benches/full_size.toml --cache-dir $(BENCH)/store build
	rm -rf $(BENCH)/store
	@touch $@

$(DEMO).done: models/anepipe-demo-q8_0.gguf | build
	$(ANEPIPE) --cache-dir $(BENCH)/store build --widths 1,8,32 --out $(DEMO)
	rm -rf $(BENCH)/store
	@touch $@

$(STORIES).done: $(STORIES_MODEL) benches/stories.toml | build
	$(ANEPIPE) --config benches/stories.toml --cache-dir $(BENCH)/store build --model $(STORIES_MODEL) --out $(STORIES)
	rm -rf $(BENCH)/store
	@touch $@

bench-bundle: $(FULL).done

# One after the other, and nothing else on the machine meanwhile. Each script can be run by itself; report.py takes what is there.
bench-peers: setup-dev $(ORACLE)/.done $(FULL).done $(DEMO).done $(if $(STORIES_MODEL),$(STORIES).done)
	$(ANEPIPE) bench --bundle $(FULL) --rounds 5 --tokens 16 --per-class 1 --format json > $(BENCH)/full.part
	mv $(BENCH)/full.part $(BENCH)/bench_full.json
	$(ANEPIPE) bench --bundle $(DEMO) --rounds 7 --tokens 128 --prompts $(PROMPTS) --format json > $(BENCH)/demo.part
	mv $(BENCH)/demo.part $(BENCH)/bench_demo.json
	$(ORACLE)/bin/python $(PEERS)/llama.py passes --model $(FULL).gguf --bundle $(FULL) --json $(BENCH)/llama_passes.json
	$(ORACLE)/bin/python $(PEERS)/llama.py generate --model models/anepipe-demo-q8_0.gguf --bundle $(DEMO) --room 512 \
	  --json $(BENCH)/llama_generate_demo.json
ifneq ($(STORIES_MODEL),)
	$(ANEPIPE) bench --bundle $(STORIES) --rounds 7 --tokens 96 --prompts $(PROMPTS) --per-class 20 --format json > $(BENCH)/stories.part
	mv $(BENCH)/stories.part $(BENCH)/bench_stories.json
	$(ANEPIPE) bench --bundle $(STORIES) --rounds 7 --tokens 96 --prompts $(PROMPTS) --per-class 20 --keep --format json > $(BENCH)/kept.part
	mv $(BENCH)/kept.part $(BENCH)/bench_stories_kept.json
	$(ORACLE)/bin/python $(PEERS)/llama.py generate --model $(STORIES_MODEL) --bundle $(STORIES) --room 256 --tokens 64 \
	  --json $(BENCH)/llama_generate_stories.json
endif
	$(VENV)/bin/python $(PEERS)/coremltools_recipe.py --model $(FULL).gguf --scratch $(BENCH) --json $(BENCH)/coremltools_recipe.json
	$(ORACLE)/bin/python $(PEERS)/gguf_py.py --json $(BENCH)/gguf_py.json
	$(VENV)/bin/python $(PEERS)/cp.py --model $(FULL).gguf --scratch $(BENCH) --json $(BENCH)/cp.json
	$(VENV)/bin/python benches/report.py --results $(BENCH) --page docs/performance.md

$(ORACLE)/.done: requirements-oracle.txt
	$(PYTHON) -m venv $(ORACLE)
	$(ORACLE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-oracle.txt
	@touch $@

oracle: $(ORACLE)/.done
	$(ORACLE)/bin/python tests/fixtures/record_llama_cpp.py models/anepipe-demo-q8_0.gguf tests/fixtures/demo_llama_cpp.json
	git diff --stat -- tests/fixtures

clean:
	cargo clean
	rm -rf $(VENV) $(ORACLE) out
