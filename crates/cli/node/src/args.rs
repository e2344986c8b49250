//! Options that several subcommands have.

use std::path::PathBuf;

use base_codec::cbor;
use base_crypto::blacklist::test_key;
use base_crypto::ed25519::SecretKey;
use base_identity::{KeyRole, KeySource};
use base_prims::{PublicKey, Quantity};
use base_service::{out, outln};
use base_signer::{PluginConfig, RemoteConfig, SignerConfig};
use node_config::Config;
use wire_consensus::entity::{Entity, LATEST_VERSION};
use wire_consensus::genesis::Document;
use wire_consensus::pretty::{self, PrettyContext};
use wire_consensus::transaction::{Fee, Transaction};

use crate::UnsafeOptions;
use crate::tool::{Done, FILE_MODE, Failure, OrFail as _, read_json, read_text, write_file, write_json};

/// Name of the key of the test entity. Source: `go/common/entity`.
const TEST_ENTITY: &str = "ekiden test entity key seed";
/// Name of the entity's descriptor.
pub(crate) const ENTITY_FILE: &str = "entity.json";
const MODULE: &str = "cmd/common/consensus";

/// What every command is given besides its own options.
pub(crate) struct Session {
    /// The configuration; defaults without a file.
    pub(crate) config: Config,
    /// Unsafe switches.
    pub(crate) options: UnsafeOptions,
    /// How to sign.
    pub(crate) signer: SignerArgs,
}

/// Which key signs.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct SignerArgs {
    /// Signer backend [file, plugin, remote, composite].
    #[arg(
        id = "signer_backend",
        short = 's',
        long = "signer.backend",
        global = true,
        default_value = "file",
        hide_default_value = true
    )]
    pub(crate) backend: String,
    /// Directory with the entity files (and the private key, with the file backend); the working directory by default.
    #[arg(id = "signer_dir", long = "signer.dir", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Composite signer backends: comma-separated ROLE:BACKEND.
    #[arg(long = "signer.composite.backends", global = true, hide = true)]
    pub(crate) composite_backends: Option<String>,
    /// Plugin signer backend name.
    #[arg(long = "signer.plugin.name", global = true, hide = true)]
    pub(crate) plugin_name: Option<String>,
    /// Plugin signer binary path.
    #[arg(long = "signer.plugin.path", global = true, hide = true)]
    pub(crate) plugin_path: Option<PathBuf>,
    /// Plugin signer configuration.
    #[arg(long = "signer.plugin.config", global = true, hide = true)]
    pub(crate) plugin_config: Option<String>,
    /// Remote signer server address.
    #[arg(long = "signer.remote.address", global = true, hide = true)]
    pub(crate) remote_address: Option<String>,
    /// Remote signer client certificate path.
    #[arg(long = "signer.remote.client.certificate", global = true, hide = true)]
    pub(crate) remote_client_certificate: Option<PathBuf>,
    /// Remote signer client certificate key path.
    #[arg(long = "signer.remote.client.key", global = true, hide = true)]
    pub(crate) remote_client_key: Option<PathBuf>,
    /// Remote signer server certificate path.
    #[arg(long = "signer.remote.server.certificate", global = true, hide = true)]
    pub(crate) remote_server_certificate: Option<PathBuf>,
    /// Use the test entity (test networks only).
    #[arg(long = "debug.test_entity", global = true, hide = true)]
    pub(crate) test_entity: bool,
}

impl SignerArgs {
    /// The signer that the flags describe.
    pub(crate) fn config(&self) -> SignerConfig {
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        SignerConfig {
            backend: self.backend.clone(),
            composite: self.composite_backends.clone().unwrap_or_default(),
            remote: RemoteConfig {
                address: self.remote_address.clone().unwrap_or_default(),
                client_certificate: path(&self.remote_client_certificate),
                client_key: path(&self.remote_client_key),
                server_certificate: path(&self.remote_server_certificate),
            },
            plugin: PluginConfig {
                name: self.plugin_name.clone().unwrap_or_default(),
                path: path(&self.plugin_path),
                config: self.plugin_config.clone().unwrap_or_default(),
            },
        }
    }
}

/// The entity of the test networks and its key.
pub(crate) fn test_entity() -> (Entity, SecretKey) {
    let key = test_key(TEST_ENTITY);
    (Entity { v: LATEST_VERSION, id: PublicKey::from(key.public()), nodes: Vec::new() }, key)
}

impl Session {
    /// The data directory, or the working directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        match self.config.common.data_dir.as_str() {
            "" => PathBuf::from("."),
            dir => dir.into(),
        }
    }

    /// Where the entity's files are.
    pub(crate) fn signer_dir(&self) -> PathBuf {
        self.signer.dir.clone().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| ".".into())
    }

    /// Whether the test entity signs.
    pub(crate) fn is_test_entity(&self) -> bool {
        self.options.dont_blame_oasis && self.signer.test_entity
    }

    /// The signer of the entity's key.
    pub(crate) fn entity_source(&self) -> Result<Box<dyn KeySource>, String> {
        let opened = base_signer::open(&self.signer.config(), &self.signer_dir(), &[KeyRole::Entity]);
        opened.map_err(|error| error.to_string())
    }

    /// The entity's key, loaded.
    pub(crate) fn entity_key(&self) -> Result<SecretKey, String> {
        if self.is_test_entity() {
            return Ok(test_entity().1);
        }
        self.entity_source()?.load(KeyRole::Entity).map_err(|error| error.to_string())
    }

    /// The entity with its key.
    pub(crate) fn entity(&self) -> Result<(Entity, SecretKey), String> {
        if self.is_test_entity() {
            return Ok(test_entity());
        }
        let key = self.entity_key()?;
        let entity: Entity = read_json(&self.signer_dir().join(ENTITY_FILE))?;
        if entity.id != PublicKey::from(key.public()) {
            return Err(format!(
                "public key mismatch: descriptor {}, key {}",
                entity.id,
                PublicKey::from(key.public())
            ));
        }
        Ok((entity, key))
    }
}

/// The genesis document.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct GenesisArgs {
    /// Path of the genesis document.
    #[arg(
        id = "genesis",
        long = "genesis.file",
        visible_alias = "genesis_file",
        short = 'g',
        default_value = "genesis.json"
    )]
    pub(crate) file: PathBuf,
}

impl GenesisArgs {
    /// The document, all of whose rules hold.
    pub(crate) fn load(&self, session: &Session) -> Result<Document, Failure> {
        self.try_load(session).or_fail(MODULE, "failed to retrieve genesis document")
    }

    fn try_load(&self, session: &Session) -> Result<Document, String> {
        let text = read_text(&self.file)?;
        let doc = Document::from_json(&text).map_err(|e| format!("{}: {e}", self.file.display()))?;
        node_app::sanity_check(&doc, &session.options.local()).map_err(|e| format!("{}: {e}", self.file.display()))?;
        Ok(doc)
    }
}

/// What amounts and signatures in previews of transactions depend on.
pub(crate) fn pretty_context(doc: &Document) -> PrettyContext {
    PrettyContext {
        chain: Some(doc.chain_context()),
        token_symbol: Some(doc.staking.token_symbol.clone()),
        token_value_exponent: Some(doc.staking.token_value_exponent),
        genesis_hash: Some(doc.hash()),
        ..PrettyContext::default()
    }
}

/// A transaction to make.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct TxArgs {
    /// Path of the transaction.
    #[arg(long = "transaction.file", default_value = "", hide_default_value = true)]
    file: PathBuf,
    /// Nonce of the signing account.
    #[arg(long = "transaction.nonce", default_value_t = 0)]
    nonce: u64,
    /// Fee in base units.
    #[arg(long = "transaction.fee.amount", default_value = "0")]
    fee_amount: Quantity,
    /// Most gas that the transaction may use.
    #[arg(long = "transaction.fee.gas", default_value_t = 0)]
    fee_gas: u64,
    /// Make an unsigned transaction.
    #[arg(long = "transaction.unsigned")]
    unsigned: bool,
    /// Answer all questions with yes.
    #[arg(short = 'y', long = "assume_yes")]
    assume_yes: bool,
    #[command(flatten)]
    genesis: GenesisArgs,
}

impl TxArgs {
    /// The genesis document, once it is known that there is a file to write to.
    pub(crate) fn prepare(&self, session: &Session) -> Result<Document, Failure> {
        let doc = self.genesis.load(session)?;
        if self.file.as_os_str().is_empty() {
            return Err(Failure::new(MODULE, "failed to determine tx file: give --transaction.file"));
        }
        Ok(doc)
    }

    /// Makes a transaction of a call and writes it into the file, signed unless asked otherwise.
    pub(crate) fn save<T: cbor::Encode>(&self, session: &Session, doc: &Document, method: &str, body: &T) -> Done {
        self.finish(session, doc, method, Some(body))
    }

    /// The same for methods without a body.
    pub(crate) fn save_without_body(&self, session: &Session, doc: &Document, method: &str) -> Done {
        self.finish::<u8>(session, doc, method, None)
    }

    fn finish<T: cbor::Encode>(&self, session: &Session, doc: &Document, method: &str, body: Option<&T>) -> Done {
        let fee = Some(Fee { amount: self.fee_amount.clone(), gas: self.fee_gas });
        let tx = match body {
            Some(body) => Transaction::new(self.nonce, fee, method, body),
            None => Transaction::new(self.nonce, fee, method, &Nothing),
        };
        if self.unsigned {
            let saved = write_file(&self.file, &cbor::to_vec(&tx), FILE_MODE);
            return saved.or_fail(MODULE, "failed to save unsigned transaction");
        }
        let key = session.entity_key().or_fail(MODULE, "failed to load signer")?;
        let mut text = String::new();
        pretty::transaction(&tx, &pretty_context(doc), &mut text);
        outln!("You are about to sign the following transaction:");
        for line in text.lines() {
            outln!("  {line}");
        }
        if !self.assume_yes && !confirm("\nAre you sure you want to continue? (y)es/(n)o: ") {
            return Err(Failure::quiet());
        }
        let signed = tx.sign(&key, &doc.chain_context()).or_fail(MODULE, "failed to sign transaction")?;
        write_json(&self.file, &signed.0).or_fail(MODULE, "failed to save signed transaction")
    }
}

/// The body of methods without one: null.
struct Nothing;

impl cbor::Encode for Nothing {
    fn encode(&self, e: &mut cbor::Encoder) {
        e.null();
    }
}

/// Asks; without a terminal to ask at, the answer is yes.
fn confirm(question: &str) -> bool {
    use std::io::{BufRead as _, IsTerminal as _, stdin};
    if !stdin().is_terminal() {
        return true;
    }
    let mut question = question.to_owned();
    loop {
        out!("{question}");
        let mut answer = String::new();
        match stdin().lock().read_line(&mut answer) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return true,
            "n" | "no" => return false,
            "" => question.clear(),
            other => question = format!("Unrecognized response: '{other}'. Please, type (y)es or (n)o: "),
        }
    }
}
