//! Wire formats of MobileCoin: protobuf messages, peer messages in CBOR, structured hashing, text and path forms.
//!
//! Layer: L1, pure. Counterparts in the reference: the `external`, `blockchain`, `quorum_set`, `printable` and `attest`
//! protobuf packages, `mc-crypto-digestible`, `mc-util-b58-payloads`, `mc-consensus-scp-types` and the payload of
//! `mc-peers` messages.
//!
//! It judges shapes only: whether a point lies on the curve, a signature holds or a transaction is allowed is for the
//! `mc` crates.
//!
//! Main types: [`tx::Tx`], [`block::Block`], [`archive`], [`mint::MintTx`], [`scp::Msg`],
//! [`peer::ConsensusMsg`], and the trait [`digest::Digestible`].
//!
//! Invariants: what was decoded from the canonical encoding encodes to the same bytes; keys, hashes and signatures of
//! another length than theirs do not decode. Unknown protobuf fields and CBOR map keys are dropped, as the reference
//! does. Decoders use memory in proportion to their input, whose length the caller bounds.
//!
//! Tested by the recorded data in `vectors/mobilecoin` (crate `dev-mobilecoin`) and unit tests.

pub mod address;
pub mod archive;
pub mod attest;
pub mod block;
pub mod bytes;
pub mod digest;
pub mod mint;
pub mod peer;
pub mod quorum;
pub mod scp;
pub mod summary;
pub mod tx;

pub use bytes::{Ed25519Key, Ed25519Sig, FogHint, Hash, Memo, Point, Scalar32, TxHash};
pub use prost::Message;
