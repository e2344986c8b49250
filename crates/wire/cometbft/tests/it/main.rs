//! Recorded and published bytes, and hostile ones.
#![allow(clippy::unwrap_used, missing_docs)]

mod chains;
mod hostile;
mod messages;
mod published;
