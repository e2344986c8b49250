# The two commands are `make test` and `make devnet`; the README explains them.
.DEFAULT_GOAL := help
.PHONY: help test test-long devnet bench preflight

XTASK := cargo run --quiet --package xtask --

help:
	@echo 'make test       everything that continuous integration runs; ends with one line of counts'
	@echo 'make devnet     builds and starts a local network, until Ctrl-C (ARGS="--help" shows what can be set)'
	@echo 'make test-long  the property tests over many more cases'
	@echo 'make bench      benchmarks'

# Incremental compilation costs disk and time in a build from nothing.
test: export CARGO_INCREMENTAL ?= 0
test: preflight
	@$(XTASK) test

# Property tests read these; divide by ten for a shorter run.
test-long: export PROPTEST_CASES ?= 100000
test-long: export PROPTEST_MAX_SHRINK_ITERS ?= 100000
test-long: export WADI_GROWTH_BLOCKS ?= 10000
test-long: export WADI_WORKLOAD_TXS ?= 100000
test-long: export WADI_LOAD_SECONDS ?= 1800
test-long: preflight
	@$(XTASK) test --only tests

devnet: preflight
	@sh scripts/devnet.sh $(ARGS)

bench: preflight
	@cargo bench --workspace --benches

preflight:
	@sh scripts/preflight.sh
