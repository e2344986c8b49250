#!/bin/sh
# `make devnet`: the most that exists so far. There is no network to start yet; what runs is our code on recorded ones.
set -eu
cd "$(dirname "$0")/.."

echo 'There is no network to start yet. What exists is checked here on recordings of real test networks.'
echo '==> transactions: decode, verify, encode again'
cargo run --quiet --package xtask -- check-vectors transactions vectors/transactions
echo '==> chains: genesis, blocks, signatures, proofs, state roots, log records'
cargo run --quiet --package xtask -- check-vectors chains vectors/chains
echo '==> oasis-node genesis dump-hash: the chain context of each recorded network'
for genesis in vectors/chains/*/genesis.json; do
    printf '%s %s\n' "$(cargo run --quiet --package oasis-node -- genesis dump-hash -g "$genesis")" "$genesis"
done
echo '==> oasis-node debug replay: every block through all services, every result compared'
for chain in vectors/chains/*/ vectors/chains-recorded/*/; do
    echo "$chain"
    cargo run --quiet --package oasis-node -- debug replay --dir "$chain"
done
echo 'devnet: all recorded networks agree with our code'
