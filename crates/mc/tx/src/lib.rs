//! Rules of MobileCoin: which transactions, mints and blocks are allowed, and how blocks are formed.
//!
//! Layer: L2, pure. Counterparts in the reference: `mc-transaction-core`, `mc-blockchain-types`, `mc-blockchain-validators`,
//! the logic of the consensus enclave.
//!
//! It knows no ledger: spent key images, known outputs and used nonces are for `mc-ledger`; the tree of outputs comes in
//! as proofs. No attestation and no channels.
//!
//! Main items: [`validate::validate`], [`form::form_block`], [`mint::validate_mint_tx`], [`membership`], [`fees::FeeMap`],
//! [`config::BlockchainConfig`], [`builder`].
//!
//! Invariants: the first failing rule in the reference's order is the verdict; validation never panics and its work is
//! bounded by 16 inputs, 11 ring members and 16 outputs before anything costly is done.
//!
//! Tested by `vectors/mobilecoin` (crate `dev-mobilecoin`), by altering every byte of sampled transactions, and by payments
//! that [`builder`] makes.

pub mod builder;
pub mod combine;
pub mod config;
pub mod error;
pub mod fees;
pub mod form;
pub mod membership;
pub mod mint;
pub mod multisig;
pub mod rules;
pub mod signature;
pub mod validate;
