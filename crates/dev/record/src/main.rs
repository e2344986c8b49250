//! Records a running node's chain: `dev-record --address unix:/path/internal.sock --out DIR`.

use std::path::PathBuf;

use clap::Parser;
use dev_record::{Evidence, GrpcNode, Options, read_evidence, record};

/// Writes a running node's chain in the recorded-chain format.
#[derive(Parser)]
#[command(name = "dev-record")]
struct Args {
    /// The node: unix:PATH of its internal socket, or http://HOST:PORT.
    #[arg(long)]
    address: String,
    /// Folder to write to.
    #[arg(long)]
    out: PathBuf,
    /// First height [default: the node's oldest].
    #[arg(long)]
    from: Option<i64>,
    /// Last height [default: the node's newest but one].
    #[arg(long)]
    to: Option<i64>,
    /// File with the evidence of the chain's blocks, which no node tells.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let evidence = match &args.evidence {
        Some(path) => read_evidence(path)?,
        None => Evidence::new(),
    };
    let mut node = GrpcNode::connect(&args.address)?;
    let options = Options { out: args.out, from: args.from, to: args.to, evidence };
    let report = record(&mut node, &options)?;
    println!("{}", report.to_json());
    Ok(())
}
