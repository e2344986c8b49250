#!/bin/sh
# `make devnet`: builds the node and starts a local network with it. ARGS are given on: make devnet ARGS='--validators 4'.
set -eu
cd "$(dirname "$0")/.."

cargo build --quiet --release --package oasis-node --package oasis-devnet --package simple-keyvalue
exec "${CARGO_TARGET_DIR:-target}/release/oasis-devnet" "$@"
