# Everything Evently needs is installed by what these call; `make up` is all there is to do on a fresh machine.

.PHONY: up test chaos bench check

up:
	cargo build --locked --profile quick
	exec target/quick/evently up

# Everything is built at once, then what tests need is installed, then they run: most wait for something most of the time.
TESTS = --locked --profile quick --workspace
test: export RUST_TEST_THREADS ?= $(shell expr $$(nproc) \* 2)
test:
	cargo test $(TESTS) --lib --bins --tests --no-run
	cargo test $(TESTS) --test install
	cargo test $(TESTS) --lib --bins --tests

# make chaos SECONDS=60 SEED=7: what the seed plans, at length. Without a seed it draws one and prints it.
chaos:
	CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) cargo test --locked --profile quick --workspace --test main chaos::at_length -- --ignored --exact --nocapture

# `make bench PROFILE=dist` measures what containers run; it takes longer to build.
PROFILE = release
bench:
	cargo build --locked --profile $(PROFILE)
	exec target/$(PROFILE)/evently bench

check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	cargo test --locked --profile quick --workspace --test dependencies
	if command -v cargo-deny >/dev/null; then cargo deny check bans; fi
