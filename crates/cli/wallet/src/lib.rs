//! The wallet and network command line: accounts, keys, transactions, and what a network looks like.
//!
//! Layer: L4. Reference counterpart: `oasisprotocol/cli` (same commands, flags, configuration file, wallet files and outputs).
//!
//! It holds no node and no state of the network: it reads its own configuration directory, asks one node, signs, and sends.
//!
//! Main types: `config::Config` (`cli.toml`), `wallet` (keys), `address` (names of accounts), `tx` (sign, export, send);
//! one module per command group below `commands`.
//!
//! Invariants: a secret key is in memory only while a command signs, and in a file only encrypted; nothing is sent to a
//! network whose chain context differs from the configured one; results go to standard output, everything else to
//! standard error.
//!
//! Tests: outputs recorded from the reference byte for byte; wallet files both ways; tables of amounts and addresses.

mod address;
mod amount;
mod args;
mod commands;
mod config;
mod error;
mod out;
mod paratime;
mod prompt;
mod remote;
mod sdk;
mod table;
mod tx;
mod wallet;

pub use commands::run;

#[cfg(test)]
mod tests;
