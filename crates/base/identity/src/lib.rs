//! Key files and TLS identity of a node's data directory.
//!
//! Layer L3: reads and writes files and takes entropy from the operating system; the clock is an argument. Reference
//! counterpart: `go/common/identity`, `go/common/crypto/signature/signers/file`, `go/common/crypto/tls`, `go/common/pem`.
//!
//! What it does not do: no TLS connections (it gives certificates and checks those of peers); no signers but files, whose
//! keys others hand in as a [`KeySource`]; no entity descriptors, only the entity's key.
//!
//! Main types: [`Identity`], [`KeyRole`], [`TlsIdentity`], [`verify_tls_peer`].
//!
//! Invariants: secret files have exactly mode 0600 and are replaced whole (written aside, synced, renamed); a secret
//! half never stays in memory after drop nor appears in a message; every error names the file, what was found and what
//! to do.
//!
//! Tested with a data directory and a certificate recorded from the reference, byte for byte, and one case per error.

mod files;
mod identity;
pub mod pem;
mod tls;

pub use files::{FileError, KeyRole, generate_key, load_key, load_key_file};
pub use identity::{Identity, KeyFiles, KeySource, KeySourceError, P2pEntropy};
pub use tls::{
    COMMON_NAME, TlsError, TlsIdentity, certificate_key, load_certificate, verify_tls_peer, verify_tls_peer_named,
};
