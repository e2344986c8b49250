//! Recording a running node's chain, by the recorder's own program.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// The recorder's command line: built and run by cargo, since the gate should not have to build gRPC and async.
fn command(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--release", "-p", "dev-record", "--"]).args(args);
    command
}

/// Runs the recorder with the arguments; its exit code is ours.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    let status = command(args).status().context("cannot run the recorder with cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_to_the_recorder() {
        let command = command(&["--address", "unix:/a", "--out", "b"]);
        let args: Vec<_> = command.get_args().map(|a| a.to_str().unwrap().to_owned()).collect();
        let (cargo, recorder) = args.split_at(args.iter().position(|a| a == "--").unwrap() + 1);
        assert_eq!(cargo, ["run", "--quiet", "--release", "-p", "dev-record", "--"]);
        assert_eq!(recorder, ["--address", "unix:/a", "--out", "b"]);
    }
}
