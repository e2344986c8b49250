//! What all services of the consensus layer share: execution context, layered state, gas, messages, and the
//! multiplexer that turns blocks into state, results and events.
//!
//! Layer L2 (pure). Reference counterpart: `go/consensus/cometbft/{abci,api}` without its storage and networking.
//!
//! What it does not do: it knows no service (they are given as [`Service`] objects), writes nothing to disk, has no
//! clock and no randomness; the time is that of the block.
//!
//! Main types: [`Context`], [`Layers`], [`Service`], [`Message`], [`Mux`], [`Error`].
//!
//! Invariants:
//! * A sub-transaction that fails leaves neither state nor events behind; nothing else rolls back.
//! * What a transaction can cause is an [`Error::Coded`] or [`Error::Uncoded`]; [`Error::Fatal`] means that the state
//!   itself is unusable, and execution stops.
//!
//! Tested by the replay of recorded chains, and by unit tests of each part.

mod context;
pub mod epoch;
mod error;
pub mod events;
mod gas;
pub mod kv;
mod layers;
pub mod mux;
mod open;
pub mod params;
mod service;
pub mod submit;

pub use context::{BlockContext, Context, Env, LocalConfig, Mode, SanitySchedule};
pub use error::{Error, Result};
pub use gas::GasMeter;
pub use layers::{Layers, Level, View};
pub use mux::{Mux, MuxConfig};
pub use open::{OpenedTxs, Opener};
pub use service::{Authenticator, Halt, Message, MessageKind, Reply, Service, Upgrader};
