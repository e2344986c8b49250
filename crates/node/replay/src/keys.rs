//! Names for state keys, so that a difference can be read.

use std::fmt::Write as _;

use base_prims::Address;

/// A part of a key.
#[derive(Clone, Copy)]
enum Part {
    Address,
    Hash(&'static str),
    U64(&'static str),
    I64(&'static str),
    U8(&'static str),
    CometAddress,
}

use Part::{Address as A, CometAddress as C, Hash as H, I64, U8, U64};

/// Prefix byte, service, name, parts. Source: the key formats of the reference's `state` packages.
const KEYS: &[(u8, &str, &str, &[Part])] = &[
    (0x10, "registry", "entity", &[H("entity")]),
    (0x11, "registry", "node", &[H("node")]),
    (0x12, "registry", "node by entity", &[H("entity"), H("node")]),
    (0x13, "registry", "runtime", &[H("runtime")]),
    (0x14, "registry", "node by consensus address", &[C]),
    (0x15, "registry", "node status", &[H("node")]),
    (0x16, "registry", "parameters", &[]),
    (0x17, "registry", "node by subkey", &[H("key")]),
    (0x18, "registry", "suspended runtime", &[H("runtime")]),
    (0x19, "registry", "runtime by entity", &[H("entity"), H("runtime")]),
    (0x20, "roothash", "runtime state", &[H("runtime")]),
    (0x21, "roothash", "parameters", &[]),
    (0x22, "roothash", "round timeout", &[I64("height"), H("runtime")]),
    (0x24, "roothash", "evidence", &[H("runtime"), U64("round"), H("evidence")]),
    (0x25, "roothash", "state root", &[H("runtime")]),
    (0x26, "roothash", "I/O root", &[H("runtime")]),
    (0x27, "roothash", "last round results", &[H("runtime")]),
    (0x28, "roothash", "incoming message queue", &[H("runtime")]),
    (0x29, "roothash", "incoming message", &[H("runtime"), U64("id")]),
    (0x2a, "roothash", "past roots", &[H("runtime"), U64("round")]),
    (0x30, "vault", "vault", &[A]),
    (0x31, "vault", "address state", &[A, A]),
    (0x32, "vault", "pending action", &[A, U64("nonce")]),
    (0x33, "vault", "parameters", &[]),
    (0x40, "beacon", "current epoch", &[]),
    (0x41, "beacon", "future epoch", &[]),
    (0x42, "beacon", "beacon", &[]),
    (0x43, "beacon", "parameters", &[]),
    (0x45, "beacon", "pending mock epoch", &[]),
    (0x46, "beacon", "VRF state", &[]),
    (0x50, "staking", "account", &[A]),
    (0x51, "staking", "total supply", &[]),
    (0x52, "staking", "common pool", &[]),
    (0x53, "staking", "delegation", &[A, A]),
    (0x54, "staking", "debonding delegation", &[A, A, U64("epoch")]),
    (0x55, "staking", "debonding queue", &[U64("epoch"), A, A]),
    (0x56, "staking", "parameters", &[]),
    (0x57, "staking", "last block fees", &[]),
    (0x58, "staking", "epoch signing", &[]),
    (0x59, "staking", "governance deposits", &[]),
    (0x5a, "staking", "delegation by delegator", &[A, A]),
    (0x5b, "staking", "commission schedule address", &[A]),
    (0x60, "scheduler", "committee", &[U8("kind"), H("runtime")]),
    (0x61, "scheduler", "current validators", &[]),
    (0x62, "scheduler", "pending validators", &[]),
    (0x63, "scheduler", "parameters", &[]),
    (0x70, "keymanager", "status", &[H("runtime")]),
    (0x71, "keymanager", "parameters", &[]),
    (0x72, "keymanager", "master secret", &[H("runtime")]),
    (0x73, "keymanager", "ephemeral secret", &[H("runtime")]),
    (0x74, "keymanager", "CHURP parameters", &[]),
    (0x75, "keymanager", "CHURP status", &[H("runtime"), U8("id")]),
    (0x80, "governance", "next proposal id", &[]),
    (0x81, "governance", "proposal", &[U64("id")]),
    (0x82, "governance", "active proposal", &[U64("closes at"), U64("id")]),
    (0x83, "governance", "vote", &[U64("id"), A]),
    (0x84, "governance", "pending upgrade", &[U64("epoch"), U64("id")]),
    (0x85, "governance", "parameters", &[]),
    (0xf0, "consensus", "chain context", &[]),
    (0xf1, "consensus", "parameters", &[]),
];

/// The service and meaning of a state key, such as `staking: account oasis1…`.
pub fn describe_key(key: &[u8]) -> String {
    let row = key.first().and_then(|prefix| KEYS.iter().find(|k| k.0 == *prefix));
    let (Some((_, service, name, parts)), Some(rest)) = (row, key.get(1..)) else {
        return format!("unknown key {}", hex::encode(key));
    };
    let mut out = format!("{service}: {name}");
    let mut rest = rest;
    for part in *parts {
        let Some(text) = read_part(*part, &mut rest) else { break };
        // Writing to a string cannot fail.
        let _ = write!(out, " {text}");
    }
    if !rest.is_empty() {
        let _ = write!(out, " +{}", hex::encode(rest));
    }
    out
}

fn read_part(part: Part, rest: &mut &[u8]) -> Option<String> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk::<N>()?;
        *rest = tail;
        Some(*head)
    }
    Some(match part {
        A => Address::new(take(rest)?).to_string(),
        H(name) => format!("{name}#{}", hex::encode(take::<32>(rest)?)),
        U64(name) => format!("{name} {}", u64::from_be_bytes(take(rest)?)),
        I64(name) => format!("{name} {}", i64::from_be_bytes(take(rest)?)),
        U8(name) => format!("{name} {}", take::<1>(rest)?[0]),
        C => hex::encode_upper(take::<20>(rest)?),
    })
}
