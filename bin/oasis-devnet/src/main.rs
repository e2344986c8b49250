//! The `oasis-devnet` command: a whole local network of real processes.
//!
//! Layer L5. Reference counterpart: `oasis-net-runner`. Everything it does is in `cli-devnet`; nothing is decided here.
//!
//! Tested through `cli_devnet::run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli_devnet::run(std::env::args_os())
}
