//! `oasis-node identity …`: the keys of a node. Reference: `go/oasis-node/cmd/identity`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base_identity::pem::decode;
use base_identity::{FileError, Identity, KeyRole};
use base_prims::{Address, PublicKey};
use base_service::outln;
use clap::Subcommand;

use crate::client::ClientArgs;
use crate::control;
use crate::tool::{Done, Failure, OrFail as _, end, now_unix, read_bytes};

const MODULE: &str = "cmd/identity";
/// What a public key file holds.
const PUBLIC_PEM: &str = "ED25519 PUBLIC KEY";
/// Bytes of an address that its fingerprint shows. Source: CometBFT `libs/bytes`.
const FINGERPRINT: usize = 6;

/// `identity`.
#[derive(clap::Args)]
pub(crate) struct IdentityArgs {
    /// Data directory.
    #[arg(long, global = true, value_name = "DIR")]
    datadir: Option<PathBuf>,
    #[command(subcommand)]
    command: IdentityCommand,
}

/// Subcommands of `identity`.
#[derive(Subcommand)]
enum IdentityCommand {
    /// Initialize node identity.
    Init {
        /// Verbose output.
        #[arg(short = 'v', long)]
        verbose: bool,
    },
    /// Output the node's sentry control client TLS public key.
    ShowSentryClientPubkey,
    /// Output the node's endpoint TLS public key.
    ShowTlsPubkey,
    /// Output the node's address.
    ShowAddress {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// CometBFT backend utilities.
    #[command(subcommand)]
    Cometbft(CometCommand),
}

/// Subcommands of `identity cometbft`.
#[derive(Subcommand)]
enum CometCommand {
    /// Output the node's CometBFT address.
    ShowNodeAddress {
        /// Verbose output.
        #[arg(short = 'v', long)]
        verbose: bool,
    },
    /// Output the consensus (validator's) CometBFT address.
    ShowConsensusAddress {
        /// Verbose output.
        #[arg(short = 'v', long)]
        verbose: bool,
    },
}

pub(crate) fn run(args: &IdentityArgs) -> ExitCode {
    end(dispatch(args))
}

fn dispatch(args: &IdentityArgs) -> Done {
    if let IdentityCommand::ShowAddress { client } = &args.command {
        outln!("{}", Address::of_key(&control::status(client)?.identity.node));
        return Ok(());
    }
    let dir = args.datadir.as_deref().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.ok_or_else(|| Failure::new(MODULE, "data directory must be set"))?;
    match &args.command {
        IdentityCommand::Init { .. } => {
            base_service::limits::private_files();
            Identity::load_or_generate(dir, now_unix()).or_fail(MODULE, "failed to load or generate node identity")?;
            outln!("Generated identity files in: {}", dir.display());
        }
        IdentityCommand::ShowSentryClientPubkey => {
            outln!("{}", PublicKey::from(load(dir)?.sentry_client_tls.public()));
        }
        IdentityCommand::ShowTlsPubkey => outln!("{}", PublicKey::from(load(dir)?.tls.public())),
        IdentityCommand::ShowAddress { .. } => {}
        IdentityCommand::Cometbft(CometCommand::ShowNodeAddress { verbose }) => {
            comet_address(dir, KeyRole::P2p, verbose.then_some("Node's CometBFT address"))?;
        }
        IdentityCommand::Cometbft(CometCommand::ShowConsensusAddress { verbose }) => {
            let label = "Consensus' (validator's) CometBFT address";
            comet_address(dir, KeyRole::Consensus, verbose.then_some(label))?;
        }
    }
    Ok(())
}

fn load(dir: &Path) -> Result<Identity, Failure> {
    Identity::load(dir, now_unix())
        .map_err(|error: FileError| Failure::because(MODULE, "failed to load identity", error))
}

/// Prints the address that belongs to a public key file.
fn comet_address(dir: &Path, role: KeyRole, label: Option<&str>) -> Done {
    let what = "failed to open node's public key";
    let path = dir.join(role.public_file().unwrap_or_default());
    let read = || -> Result<[u8; 32], String> {
        let block = decode(PUBLIC_PEM, &read_bytes(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        block.as_slice().try_into().map_err(|_| format!("{}: not 32 bytes long", path.display()))
    };
    let address = PublicKey::from(read().or_fail("cmd/identity/cometbft", what)?).comet_address();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    match label {
        Some(label) => outln!("{label}: {} (fingerprint: {})", hex(&address), hex(&address[..FINGERPRINT])),
        None => outln!("{}", hex(&address)),
    }
    Ok(())
}
