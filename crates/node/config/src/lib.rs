//! The configuration file of a node: read with everything that is wrong with it at once, checked, printed.
//!
//! Layer: L4. Reference counterpart: `go/config`, and the `config` packages that it imports.
//!
//! It opens the one file it is given and reads the environment for substitution; it does not create directories, look at
//! keys or start anything.
//!
//! Main types: [`Config`] ([`Config::load`]), its sections in [`schema`], [`ConfigError`] with all [`Problem`]s.
//!
//! Invariants: an unknown key, a key given twice and a value of another type are errors that name line, key path, what was
//! found and what is expected; an empty value leaves the default; a printed configuration reads back as itself.
//!
//! Tests: tables of files with everything that is wrong with them; defaults against the reference's; print and read back.

mod check;
mod load;
mod needs;
mod read;
pub mod schema;
mod substitute;
pub mod yaml;

pub use load::{ConfigError, MAX_FILE_SIZE, Problem, parse, read_file};
pub use read::{Any, ByteSize, GoDuration, Identifier};
pub use schema::{Config, Mode};
pub use substitute::{SubstituteError, substitute};
