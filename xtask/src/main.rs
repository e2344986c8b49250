//! The project's own checks and chores, run as `cargo run -p xtask -- COMMAND`.
//!
//! Layer: dev. Reference counterpart: none.
//!
//! `tidy` checks what no compiler checks (layers, formats, sizes, documents), `test` is the whole gate, and
//! `check-vectors` compares our code with recorded data in any files of a known shape. It holds no logic of the node.
//!
//! Invariant: every check has a unit test that shows it failing.

mod dist;
mod gate;
mod layers;
mod record;
mod source;
mod tidy;
mod tree;
mod vectors;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo run -p xtask -- COMMAND

  tidy [--write]               check layers, formats, sizes, gaps and documents; --write refreshes generated parts
  tidy --accept-sizes          write today's oversized files and functions as the new baseline
  test [--only STEP[,STEP]]    run the gate: fmt, tidy, clippy, tests, vectors, docs; ends with one line of counts
  check-vectors FAMILY FILE…   compare our code with recorded data; prints one JSON line, exits 1 at a difference
  check-vectors --list         list the families
  record --address NODE --out DIR [--from H] [--to H] [--evidence FILE]
                               write a running node's chain in the recorded-chain format (over its gRPC)
  dist [archive] [deb] [oci] [--out DIR] [--programs DIR]
                               release build, packages and image, with their SHA-256; equal on every machine
  dist reproduce [PROGRAM…]    build twice, at two places, and compare
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["tidy", flags @ ..] => tidy::run(flags),
        ["test"] => gate::run(None),
        ["test", "--only", steps] => gate::run(Some(steps)),
        ["check-vectors", "--list"] => Ok(vectors::list()),
        ["check-vectors", family, files @ ..] if !files.is_empty() => vectors::run(family, files),
        ["dist", args @ ..] => dist::run(args),
        ["record", args @ ..] => record::run(args),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("unknown or incomplete command\n{USAGE}"),
    }
}
