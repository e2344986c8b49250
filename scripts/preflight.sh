#!/bin/sh
# Looks for what the build needs and installs what is lacking (as root on Debian or Ubuntu);
# otherwise prints the one command to run and stops. It asks for nothing that the build does not use today.
set -eu

stop() {
    printf 'preflight: %s\n' "$1" >&2
    printf 'preflight: run this, then try again:\n    %s\n' "$2" >&2
    exit 1
}

# Installs the package that brings a missing program.
need() {
    program=$1 packages=$2 why=$3
    if command -v "$program" >/dev/null 2>&1; then
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        stop "$program is missing: $why" "sudo apt-get update && sudo apt-get install -y $packages"
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        stop "$program is missing: $why" "install $packages with this system's package manager"
    fi
    printf 'preflight: installing %s: %s\n' "$packages" "$why"
    # shellcheck disable=SC2086 # several packages, one word each
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages) >&2 ||
        stop "installing $packages failed" "apt-get update && apt-get install -y $packages"
}

# The same for a program that only some tests use: without it they say what they skip.
want() {
    if command -v "$1" >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        return 0
    fi
    (need "$@") || printf 'preflight: going on without %s: %s\n' "$1" "$3"
}

# Is version $1 at least $2? Both are MAJOR.MINOR, with anything behind.
at_least() {
    got_major=${1%%.*} got_rest=${1#*.}
    want_major=${2%%.*} want_rest=${2#*.}
    got_minor=${got_rest%%.*} want_minor=${want_rest%%.*}
    [ "$got_major" -gt "$want_major" ] || { [ "$got_major" -eq "$want_major" ] && [ "$got_minor" -ge "$want_minor" ]; }
}

# A rustup that was just installed may not be on the path of this shell yet.
if ! command -v cargo >/dev/null 2>&1 && [ -n "${HOME:-}" ] && [ -x "$HOME/.cargo/bin/cargo" ]; then
    stop "cargo is installed but not on the PATH" ". \"\$HOME/.cargo/env\""
fi
command -v cargo >/dev/null 2>&1 ||
    stop "the Rust toolchain is missing" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(rustc --version | cut -d ' ' -f 2)
at_least "$found" "$wanted" || stop "rustc $found is too old, $wanted is needed" "rustup update stable"

need cc "gcc libc6-dev" "Rust links with it, and one dependency compiles C"
need git git "the checks ask it which files belong to the project"
want bwrap bubblewrap "ParaTimes run in its sandbox"
