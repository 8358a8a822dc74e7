# Two commands: `make demo` runs the quick experiment, `make test` passes the tests. Both install what is missing on a
# Debian machine (as root, or with sudo); Rust and a C compiler are expected to be there.

LIBRARIES := libopenblas-dev pkg-config
# Tests run on Mesa's software adapters, Vulkan and GL, and fail where CURRICLE_EXPECT_ADAPTERS names one that is missing.
TESTING := chromium libvulkan1 mesa-vulkan-drivers libegl1 libegl-mesa0 libgl1-mesa-dri
export CURRICLE_EXPECT_ADAPTERS ?= vulkan,gl
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

# PYTHON_PACKAGES may name an index with CPU wheels: make interop PYTHON_PACKAGES="--extra-index-url .. torch transformers"
PYTHON_PACKAGES := torch transformers

.PHONY: demo test lint wasm-check interop setup setup-test

demo: setup
	cargo build --release --locked
	./target/release/curricle run experiments/parity-mlp/quick.toml --resume

test: setup-test
	cargo test --release --locked --workspace

lint:
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

# What a browser needs builds for it.
wasm-check:
	rustup target add wasm32-unknown-unknown
	cargo check --locked -p curricle-core -p curricle-gpu --target wasm32-unknown-unknown

# Exchanges folders with the real transformers, in a virtual environment of its own (some GB with PyTorch's default wheels).
interop: setup
	test -d target/interop-venv || python3 -m venv target/interop-venv
	target/interop-venv/bin/pip install --quiet $(PYTHON_PACKAGES)
	target/interop-venv/bin/python tests/interop.py

setup:
	@$(call install,$(LIBRARIES))

setup-test:
	@$(call install,$(LIBRARIES) $(TESTING))

# Debian packages that are not yet installed; elsewhere the same libraries have to be there already.
define install
	if command -v dpkg-query >/dev/null; then \
		missing=; \
		for package in $(1); do \
			dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
		done; \
		if [ -n "$$missing" ]; then \
			echo "installing$$missing"; \
			$(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		fi; \
	fi
endef
