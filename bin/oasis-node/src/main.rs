//! The `oasis-node` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli_node::run(std::env::args_os())
}
