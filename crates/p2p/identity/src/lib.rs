//! Stands in for the `libp2p-identity` crate: keys and peer ids with the Oasis Network's signature rules.
//!
//! Layer L3, because of operating system randomness. Reference counterpart: `go/p2p/api/crypto.go`, which plugs the
//! node's signer into libp2p so that every libp2p signature (TLS certificate extension, Noise payload, gossip message,
//! signed peer record) covers SHA-512/256(`oasis-core/worker: libp2p` ‖ message) instead of the message.
//!
//! The libp2p crates have no hook for that: they call [`Keypair::sign`] and [`PublicKey::verify`] of the crate with this
//! name. The workspace puts this crate in its place (`[patch.crates-io]` in the root `Cargo.toml`), so name and version
//! are those of the crate replaced, and its public interface is the part of that crate's which libp2p uses.
//!
//! What it does not do: no key type but Ed25519; no private keys in protobuf; no key files (`base_identity`); it refuses
//! no test keys.
//!
//! Main types: [`Keypair`], [`PublicKey`], [`PeerId`], [`Signer`].
//!
//! Invariants: a peer id of an Ed25519 key holds the key itself; secrets are wiped on drop and never printed; decoders
//! take any bytes without panic and without allocating more than what they were given.
//!
//! Tested with fixed vectors of peer ids, encodings and signatures, and with arbitrary bytes to every decoder.

mod error;
mod keypair;
mod peer_id;
mod proto;

pub use error::{DecodingError, OtherVariantError, SigningError};
pub use keypair::{KeyType, Keypair, PublicKey, Signer};
pub use peer_id::{ParseError, PeerId};

/// Ed25519 keys by that name.
pub mod ed25519 {
    pub use crate::keypair::Ed25519PublicKey as PublicKey;
}
