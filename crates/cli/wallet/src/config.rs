//! The configuration file `cli.toml`: networks, wallets, address book.

pub(crate) mod builtin;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base_prims::{Address, Namespace};
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};

/// Name of the file.
const FILE: &str = "cli.toml";
/// Directory below the user's configuration directory.
const DIR: &str = "oasis";
/// Number of the newest change of the file's form.
const MIGRATION: i64 = 1;
/// No configuration is anywhere near this long.
const MAX_FILE: u64 = 16 << 20;
/// Longest name of anything.
const MAX_NAME: usize = 64;
/// Key of a ParaTime's own token.
pub(crate) const NATIVE: &str = "_";

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) last_migration: i64,
    #[serde(default)]
    pub(crate) networks: Networks,
    #[serde(default)]
    pub(crate) wallets: Wallets,
    #[serde(default)]
    pub(crate) address_book: BTreeMap<String, Entry>,
}

/// The networks and which of them is meant where none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Networks {
    #[serde(default)]
    pub(crate) default: String,
    #[serde(flatten)]
    pub(crate) all: BTreeMap<String, Network>,
}

/// One network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    #[serde(default)]
    pub(crate) chain_context: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) rpc: String,
    #[serde(default)]
    pub(crate) denomination: Denomination,
    #[serde(default)]
    pub(crate) paratimes: ParaTimes,
}

/// A token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Denomination {
    #[serde(default)]
    pub(crate) decimals: u8,
    #[serde(default)]
    pub(crate) symbol: String,
}

/// The ParaTimes of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParaTimes {
    #[serde(default)]
    pub(crate) default: String,
    #[serde(flatten)]
    pub(crate) all: BTreeMap<String, ParaTime>,
}

/// One ParaTime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParaTime {
    #[serde(default)]
    pub(crate) consensus_denomination: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) denominations: BTreeMap<String, Denomination>,
}

/// The accounts with keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wallets {
    #[serde(default)]
    pub(crate) default: String,
    #[serde(flatten)]
    pub(crate) all: BTreeMap<String, Account>,
}

/// One account with a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) algorithm: String,
    /// How files of older versions name the algorithm of keys on devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) derivation: Option<String>,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) eth_address: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) number: u32,
}

/// A named address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) eth_address: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            last_migration: MIGRATION,
            networks: builtin::networks(),
            wallets: Wallets::default(),
            address_book: BTreeMap::new(),
        }
    }
}

/// A configuration and where it came from.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
}

impl Store {
    /// Reads the file, or writes one with what is built in if there is none.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self> {
        let path = named.map_or_else(default_path, |path| Ok(path.to_owned()))?;
        let config = match read(&path)? {
            Some(text) => parse(&path, &text)?,
            None => {
                let store = Self { path, config: Config::default() };
                store.save()?;
                return Ok(store);
            }
        };
        let mut store = Self { path, config };
        if store.config.migrate() {
            store.save()?;
        }
        Ok(store)
    }

    /// The directory in which wallet files lie.
    pub(crate) fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Writes the file whole.
    pub(crate) fn save(&self) -> Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        let dir = self.dir();
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(CliError::file("create", dir))?;
        let text = toml::to_string(&self.config)
            .map_err(|error| CliError::Config { path: self.path.clone(), reason: error.to_string() })?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(CliError::file("write in", dir))?;
        let write = |file: &mut tempfile::NamedTempFile| {
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()
        };
        write(&mut file).map_err(CliError::file("write", &self.path))?;
        file.persist(&self.path).map(|_| ()).map_err(|error| CliError::file("write", &self.path)(error.error))
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    let length = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::file("read", path)(error)),
    };
    if length > MAX_FILE {
        let reason = format!("{length} bytes: a configuration has at most {MAX_FILE}");
        return Err(CliError::Config { path: path.to_owned(), reason });
    }
    std::fs::read_to_string(path).map(Some).map_err(CliError::file("read", path))
}

fn parse(path: &Path, text: &str) -> Result<Config> {
    let wrong = |reason: String| CliError::Config { path: path.to_owned(), reason };
    let config: Config = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    config.check().map_err(|error| wrong(error.to_string()))?;
    Ok(config)
}

/// `$XDG_CONFIG_HOME/oasis/cli.toml`, else `~/.config/oasis/cli.toml`.
fn default_path() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join(DIR).join(FILE))
        .ok_or_else(|| "neither XDG_CONFIG_HOME nor HOME is set; name the configuration with --config".into())
}

/// Whether a name can be used: lower-case letters, digits, `_` and `-`, beginning with a letter.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if name.len() > MAX_NAME {
        return Err(format!("identifier '{name}' is longer than {MAX_NAME} characters").into());
    }
    if begins && name.chars().all(good) {
        return Ok(());
    }
    Err(format!(
        "identifier must only contain lower-case letters, numbers, _ and - and begin with a letter, found '{name}'"
    )
    .into())
}

impl Config {
    /// What must hold for every configuration.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.networks.default.is_empty() && !self.networks.all.contains_key(&self.networks.default) {
            return Err(format!("default network '{}' does not exist", self.networks.default).into());
        }
        for (name, network) in &self.networks.all {
            check_name(name)?;
            network.check().map_err(|error| format!("network '{name}': {error}"))?;
        }
        if !self.wallets.default.is_empty() && !self.wallets.all.contains_key(&self.wallets.default) {
            return Err(format!("default account '{}' does not exist in the wallet", self.wallets.default).into());
        }
        let wallets = self.wallets.all.iter().map(|(name, account)| ("account", name, &account.address));
        let book = self.address_book.iter().map(|(name, entry)| ("address book entry", name, &entry.address));
        for (what, name, address) in wallets.chain(book) {
            check_name(name)?;
            address.parse::<Address>().map_err(|error| format!("{what} '{name}': malformed address: {error}"))?;
        }
        Ok(())
    }

    /// Brings known old values up to date; whether that changed anything.
    fn migrate(&mut self) -> bool {
        let before = self.clone();
        builtin::migrate(&mut self.networks);
        for account in self.wallets.all.values_mut() {
            let old = account.derivation.take();
            if account.kind == crate::wallet::LEDGER_KIND && account.algorithm.is_empty() {
                account.algorithm = format!("ed25519-{}", old.as_deref().unwrap_or("adr8"));
            }
        }
        self.last_migration = self.last_migration.max(MIGRATION);
        *self != before
    }
}

impl Network {
    fn check(&self) -> Result<()> {
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex(&self.chain_context) {
            return Err(
                format!("malformed chain context '{}': expected 64 hexadecimal digits", self.chain_context).into()
            );
        }
        if self.rpc.is_empty() {
            return Err("no RPC address".into());
        }
        let default = &self.paratimes.default;
        if !default.is_empty() && !self.paratimes.all.contains_key(default) {
            return Err(format!("default paratime '{default}' does not exist").into());
        }
        for (name, paratime) in &self.paratimes.all {
            check_name(name)?;
            paratime.namespace().map_err(|error| format!("paratime '{name}': {error}"))?;
        }
        Ok(())
    }
}

impl ParaTime {
    /// The identifier.
    pub(crate) fn namespace(&self) -> Result<Namespace> {
        self.id.parse().map_err(|error| format!("malformed identifier '{}': {error}", self.id).into())
    }
}
