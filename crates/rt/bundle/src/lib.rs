//! Runtime bundles as files: reads, verifies, unpacks, keeps and writes `.orc` archives.
//!
//! Layer: L3 (files). Reference counterpart: `go/runtime/bundle/{bundle,manager,paths}.go` and
//! `go/common/sgx/sigstruct`.
//!
//! What it does not do: no download, no configuration, no volumes, no hosting; it asks no clock. The manifest's form and
//! rules are in `wire_runtime::bundle`.
//!
//! Main types: [`Bundle`] (an open archive), [`Exploded`] (one unpacked), [`Store`] (those in a data directory),
//! [`Builder`] (a new one), [`Wrap`] (a bare binary made into one), [`sigstruct::Sigstruct`].
//!
//! Invariants:
//! * A [`Bundle`] that opened has the files that its manifest lists with those contents, and enclave signatures that
//!   verify; nothing is unpacked from one that does not.
//! * What is unpacked lies directly in one directory: names with folders, and special names, are refused.
//! * Sizes, counts and names are bounded by [`Limits`] whatever the archive announces.
//! * A bundle, a directory of an unpacked one or its removal is there in whole or not at all.
//! * Equal inputs give equal bytes.
//!
//! Tested with bundles of every kind and damage and the reference's verdicts on them (`vectors/bundles`), with its
//! verdicts on bundles written here, and with properties over damaged archives.

mod archive;
mod builder;
mod error;
mod exploded;
mod limits;
pub mod sigstruct;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod wrap;

pub use archive::{Bundle, OpenOptions};
pub use builder::Builder;
pub use error::Error;
pub use exploded::Exploded;
pub use limits::{Limits, MAX_NAME_BYTES, check_name};
pub use store::{Listing, Skipped, Store, is_obsolete, keep_at_start};
pub use verify::{Mismatch, compare_with_deployment};
pub use wrap::{Binary, Wrap};
