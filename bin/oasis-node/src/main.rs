//! The `oasis-node` command: parses its arguments, runs what they ask for, and exits with the code that it gives.
//!
//! Layer L5. Reference counterpart: `go/oasis-node/main.go`. Everything it does is in `cli-node`; nothing is decided here.
//!
//! Tested through `cli_node::run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli_node::run(std::env::args_os())
}
