//! The `oasis` command: wallet and network command line.
//!
//! Layer L5. Reference counterpart: `oasisprotocol/cli`. Everything it does is in `cli-wallet`; nothing is decided here.
//!
//! Tested through `cli_wallet::run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli_wallet::run(std::env::args_os())
}
