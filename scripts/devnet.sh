#!/bin/sh
# `make devnet`: builds the node, the example ParaTime and its key manager, and starts a local network with them.
# ARGS are given on: make devnet ARGS='--validators 4'.
set -eu
cd "$(dirname "$0")/.."

case " $* " in
*" --unconfined "* | *" --help "*) ;;
*) sh scripts/preflight.sh bubblewrap ;;
esac
cargo build --quiet --release --package oasis-node --package oasis-devnet --package simple-keyvalue \
    --package simple-keymanager
exec "${CARGO_TARGET_DIR:-target}/release/oasis-devnet" "$@"
