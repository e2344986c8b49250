#!/bin/sh
# A ParaTime of one's own on a local network: bundle, owner, descriptor, nodes, first round, second version.
# docs/guide/own-paratime.md explains each step. Usage: own.sh [DIRECTORY OF THE NETWORK [DIRECTORY OF THE PROGRAMS]]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
net=$(cd "${1:-.devnet}" && pwd)
programs=$(cd "${2:-target/release}" && pwd)
id=0000000000000000000000000000000000000000000000000000000000000c0f
nodes="compute-0 compute-1 compute-2 client-0"
patience=300 # seconds that a step may take

work=$net/own
mkdir "$work" || { echo "$work is there already: this network has its ParaTime"; exit 1; }
export XDG_CONFIG_HOME="$work"
oasis() { "$programs/oasis" "$@"; }
say() { printf '\n== %s\n' "$*"; }
# The first line of standard input that begins so, without that beginning.
field() { sed -n "s/^ *$1 *//p" | head -n 1; }
until_true() {
    what=$1; shift
    end=$(($(date +%s) + patience))
    until "$@" > "$work/last.txt" 2>&1; do
        [ "$(date +%s)" -lt $end ] || { echo "$what did not happen within $patience s:"; cat "$work/last.txt"; exit 1; }
        sleep 2
    done
}
# A bundle's hash as descriptors have it.
checksum() { oasis bundle show "$1" | field 'Manifest hash:' | xxd -r -p | base64; }
# A descriptor with these deployments.
descriptor() {
    sed -e "s|@ID@|$id|" -e "s|@OWNER@|$owner|" -e "s|@OPERATOR@|$operator|" -e "s|@DEPLOYMENTS@|$1|" "$here/descriptor.json"
}
deployment() { printf '{"version": {"major": 0, "minor": %s, "patch": 0}, "valid_from": %s, "bundle_checksum": "%s"}' "$1" "$2" "$3"; }
epoch() { oasis network status | field 'Latest epoch:'; }

say "the wallet"
oasis network add-local devnet "unix:$net/client-0/internal.sock" -y --symbol TEST --num-decimals 9
oasis network set-default devnet
oasis wallet import-file alice "$net/accounts/alice/entity.pem" -y

say "1. the bundle"
oasis bundle init "$programs/simple-keyvalue" --runtime-id $id --version 0.0.0 --name mine -o "$work/v1.orc"

say "2. the owner"
oasis account entity init --account alice -y -o "$work/entity.json"
oasis account delegate 1000 alice --account alice -y
oasis account entity register "$work/entity.json" --account alice -y
owner=$(sed -n 's/.*"id": "\(.*\)".*/\1/p' "$work/entity.json")
operator=$(sed -n "s/.*entity_id: *'\{0,1\}\([^']*\)'\{0,1\}/\1/p" "$net/compute-0/config.yml")

say "3. the descriptor"
first=$(deployment 0 0 "$(checksum "$work/v1.orc")")
descriptor "$first" > "$work/v1.json"
oasis paratime register "$work/v1.json" --account alice -y
oasis paratime add devnet mine $id --symbol MINE --num-decimals 9 -y

say "4. nodes that run it: the bundle beside the one that they have, and a restart"
"$programs/oasis-devnet" stop --dir "$net"
for node in $nodes; do
    sed -i "s|^\( *- \).*paratime.orc'\{0,1\}\$|&\n\1'$work/v1.orc'|" "$net/$node/config.yml"
done
"$programs/oasis-devnet" --dir "$net" --paratime simple-keyvalue --timeout $patience --detach
has_round() { [ "$(oasis paratime show latest --paratime mine | field 'Type:')" = 1 ]; }
until_true "a round" has_round
oasis network show committees
oasis paratime show latest --paratime mine

say "5. the second version"
oasis bundle init "$programs/simple-keyvalue-upgrade" --runtime-id $id --version 0.1.0 --name mine -o "$work/v2.orc"
for node in $nodes; do
    "$programs/oasis-node" control add-bundle "$work/v2.orc" -a "unix:$net/$node/internal.sock"
done
from=$(($(epoch) + 6))
descriptor "$first, $(deployment 1 $from "$(checksum "$work/v2.orc")")" > "$work/v2.json"
oasis paratime register "$work/v2.json" --account alice -y
is_second() { oasis network status | sed -n "/$id/,/Available/p" | grep 'Active version: *0\.1\.0'; }
until_true "the second version" is_second
oasis network status

say "done: the ParaTime runs its second version since epoch $from"
