//! Flags that several commands share, and the words of all commands.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which network.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NetworkFlag {
    /// Explicitly set network to use.
    #[arg(long, default_value = "")]
    pub(crate) network: String,
}

/// Which ParaTime, or none.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ParaTimeFlags {
    /// Explicitly set ParaTime to use.
    #[arg(long, default_value = "")]
    pub(crate) paratime: String,
    /// Explicitly set that no ParaTime should be used.
    #[arg(long)]
    pub(crate) no_paratime: bool,
}

/// Which account signs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AccountFlag {
    /// Explicitly set account to use.
    #[arg(long, alias = "wallet", default_value = "")]
    pub(crate) account: String,
}

/// Answer every question with yes.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Yes {
    /// Answer yes to all questions.
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,
}

/// At which height.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct HeightFlag {
    /// Explicitly set block height to use; 0 is the newest.
    #[arg(long, default_value_t = 0)]
    pub(crate) height: i64,
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The flag for it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct FormatFlag {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// How transactions are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TxFormat {
    /// Text.
    #[default]
    Json,
    /// As sent.
    Cbor,
}

/// How a transaction is made.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TxFlags {
    /// Do not perform any operations requiring network access.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Do not sign transaction.
    #[arg(long)]
    pub(crate) unsigned: bool,
    /// Override nonce to use.
    #[arg(long)]
    pub(crate) nonce: Option<u64>,
    /// Override gas limit to use (disable estimation).
    #[arg(long)]
    pub(crate) gas_limit: Option<u64>,
    /// Override gas price to use.
    #[arg(long)]
    pub(crate) gas_price: Option<String>,
    /// Override fee denomination (defaults to native); in ParaTimes only.
    #[arg(long, default_value = "")]
    pub(crate) fee_denom: String,
    /// Encrypt transaction call data (requires online mode); in ParaTimes only.
    #[arg(long)]
    pub(crate) encrypted: bool,
    /// Transaction output format (for offline/unsigned modes).
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: TxFormat,
    /// Output transaction into specified file instead of broadcasting.
    #[arg(short = 'o', long)]
    pub(crate) output_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

impl TxFlags {
    /// Whether the transaction is written out instead of sent.
    pub(crate) fn export(&self) -> bool {
        self.offline || self.unsigned || self.output_file.is_some()
    }
}

/// What an operation of an account needs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Signing {
    #[command(flatten)]
    pub(crate) network: NetworkFlag,
    #[command(flatten)]
    pub(crate) paratime: ParaTimeFlags,
    #[command(flatten)]
    pub(crate) account: AccountFlag,
    #[command(flatten)]
    pub(crate) tx: TxFlags,
}
