//! What an operator configures of a MobileCoin node: addresses, network file, token file, client tokens.
//!
//! Layer: L2, pure: texts come in as arguments. Counterparts in the reference: `mc-util-uri`, `mc-consensus-service-config`,
//! `mc-util-grpc`'s token authenticator.
//!
//! It opens no files and no sockets.
//!
//! Main types: [`uri::Uri`], [`network::Network`], [`tokens::Tokens`], functions of [`token`].
//!
//! Tested by `vectors/mobilecoin` (crate `dev-mobilecoin`).

pub mod network;
pub mod token;
pub mod tokens;
pub mod uri;
