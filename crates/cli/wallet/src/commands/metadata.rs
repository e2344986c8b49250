//! `oasis account entity metadata-update`: what entities say of themselves, signed, as files of a public list.
//!
//! Source: `registry.go`, `fs.go` of `oasisprotocol/metadata-registry-tools`.

use std::path::{Path, PathBuf};

use base_codec::{Bytes, Codec, cbor, json};
use base_crypto::ed25519::{self, SecretKey};
use base_prims::{Hash, PublicKey, RawSignature};
use clap::Args;

use super::Selection;
use crate::args::{AccountFlag, NetworkFlag, ParaTimeFlags, Yes};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::{prompt, wallet};

const CONTEXT: &str = "oasis-metadata-registry: entity";
/// Where the files lie below the list's directory.
const FOLDER: &str = "registry/entity";
const VERSION: u16 = 1;
/// Longest file.
const MAX_STATEMENT: u64 = 16 * 1024;
/// Longest values, in bytes.
const MAX_NAME: usize = 50;
const MAX_URL: usize = 64;
const MAX_HANDLE: usize = 32;

#[derive(Debug, Args)]
pub(super) struct Update {
    /// What the entity says of itself, JSON.
    file: PathBuf,
    /// Path to the metadata registry directory; the current one if none is given.
    #[arg(short = 'r', long)]
    registry_dir: Option<PathBuf>,
    #[command(flatten)]
    account: AccountFlag,
    #[command(flatten)]
    yes: Yes,
}

/// What an entity says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Metadata {
    v: u16,
    serial: u64,
    #[codec(omitempty)]
    name: String,
    #[codec(omitempty)]
    url: String,
    #[codec(omitempty)]
    email: String,
    #[codec(omitempty)]
    keybase: String,
    #[codec(omitempty)]
    twitter: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Signed {
    untrusted_raw_value: Bytes,
    signature: Signature,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Signature {
    public_key: PublicKey,
    signature: RawSignature,
}

pub(super) fn run(store: &Store, update: &Update) -> Result<()> {
    let (network, paratime) = (NetworkFlag::default(), ParaTimeFlags::default());
    let selection = Selection::all(store, &network, &paratime, &update.account)?;
    let name = selection.must_have_account()?;
    let text = std::fs::read_to_string(&update.file).map_err(CliError::file("read", &update.file))?;
    let metadata: Metadata = json::from_str(&text)
        .map_err(|error| CliError::new(format!("malformed entity metadata: {}: {error}", update.file.display())))?;
    let signer = wallet::unlock(store, name, update.yes.yes)?;
    let key = signer.consensus()?;
    metadata.check().map_err(|error| format!("provided entity metadata is invalid: {error}"))?;
    metadata.print();
    let question = "You are about to sign the above metadata descriptor";
    prompt::confirm(question, update.yes.yes, "not signing metadata descriptor")?;
    let signed = metadata.sign(key)?;
    save(update.registry_dir.as_deref().unwrap_or(Path::new(".")), &metadata, &signed)?;
    outln!("Successfully updated entity metadata.");
    Ok(())
}

impl Metadata {
    fn check(&self) -> std::result::Result<(), String> {
        let handle = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let long = |what: &str, text: &str, max: usize| {
            let length = text.len();
            if length > max { Err(format!("entity {what} too long (length: {length} max: {max})")) } else { Ok(()) }
        };
        if self.v != VERSION {
            return Err(format!("unsupported entity metadata version: {}", self.v));
        }
        long("name", &self.name, MAX_NAME)?;
        long("URL", &self.url, MAX_URL)?;
        if !self.url.is_empty() {
            let rest = self.url.strip_prefix("https://").ok_or("entity URL must use the https scheme")?;
            let host = rest.split('/').next().unwrap_or_default();
            if host.is_empty() || self.url.contains(char::is_whitespace) {
                return Err("entity URL is malformed".to_owned());
            }
            if host.contains(':') {
                return Err("entity URL must use the default port".to_owned());
            }
            if rest.contains(['?', '#']) {
                return Err("entity URL must not contain query values or fragments".to_owned());
            }
        }
        long("e-mail", &self.email, MAX_HANDLE)?;
        let mail = self.email.split_once('@');
        let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "<>@,;".contains(c));
        if !self.email.is_empty() && !mail.is_some_and(|(user, host)| plain(user) && plain(host)) {
            return Err("entity e-mail is malformed".to_owned());
        }
        for (what, text) in [("keybase handle", &self.keybase), ("twitter handle", &self.twitter)] {
            long(what, text, MAX_HANDLE)?;
            if !handle(text) {
                return Err(format!("entity {what} is malformed"));
            }
        }
        Ok(())
    }

    fn print(&self) {
        outln!("  Version: {}", self.v);
        outln!("  Serial:  {}", self.serial);
        outln!("  Name:    {}", self.name);
        outln!("  URL:     {}", self.url);
        outln!("  Email:   {}", self.email);
        outln!("  Keybase: {}", self.keybase);
        outln!("  Twitter: {}", self.twitter);
    }

    fn sign(&self, key: &SecretKey) -> Result<Signed> {
        let blob = cbor::to_vec(self);
        let digest = Hash::of(&[CONTEXT.as_bytes(), &blob]);
        let signature = match key.holder() {
            None => key.sign(digest.as_bytes()),
            Some(holder) => holder.sign(CONTEXT.as_bytes(), &blob).map_err(CliError::new)?,
        };
        let signature = Signature { public_key: key.public().into(), signature: RawSignature::new(signature) };
        Ok(Signed { untrusted_raw_value: Bytes::from(blob), signature })
    }
}

impl Signed {
    /// What is signed, if the signature is that key's.
    fn open(&self, key: &PublicKey) -> Option<Metadata> {
        let digest = Hash::of(&[CONTEXT.as_bytes(), &self.untrusted_raw_value]);
        let valid = self.signature.public_key == *key
            && ed25519::verify(key.as_bytes(), digest.as_bytes(), self.signature.signature.as_bytes());
        if valid { cbor::from_slice(&self.untrusted_raw_value).ok() } else { None }
    }
}

/// Writes the file of the entity; what is there already must be older.
fn save(dir: &Path, metadata: &Metadata, signed: &Signed) -> Result<()> {
    let key = &signed.signature.public_key;
    let folder = dir.join(FOLDER);
    let path = folder.join(format!("{}.json", hex::encode(key.as_bytes())));
    if let Ok(meta) = std::fs::metadata(&path) {
        let corrupted =
            || CliError::new(format!("{}: corrupted registry; remove the file to replace it", path.display()));
        if meta.len() > MAX_STATEMENT {
            return Err(corrupted());
        }
        let text = std::fs::read_to_string(&path).map_err(CliError::file("read", &path))?;
        let existing: Signed = json::from_str(&text).map_err(|_| corrupted())?;
        let existing = existing.open(key).ok_or_else(corrupted)?.serial;
        if metadata.serial <= existing {
            return Err(format!(
                "updated entity metadata must increase serial number (existing: {existing} provided: {})",
                metadata.serial
            )
            .into());
        }
    }
    std::fs::create_dir_all(&folder).map_err(CliError::file("create", &folder))?;
    std::fs::write(&path, json::to_string(signed)).map_err(CliError::file("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_grow_older_and_keep_their_limits() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SecretKey::from_seed(&[7; 32]);
        let of = |serial| Metadata { v: 1, serial, name: "My entity".to_owned(), ..Metadata::default() };
        let write = |metadata: &Metadata| save(dir.path(), metadata, &metadata.sign(&key).expect("signed"));
        write(&of(1)).expect("the first");
        write(&of(3)).expect("a newer one");
        let error = write(&of(3)).expect_err("not newer").to_string();
        assert!(error.contains("existing: 3 provided: 3"), "{error}");
        let file = dir.path().join(FOLDER).join(format!("{}.json", hex::encode(key.public())));
        let signed: Signed = json::from_str(&std::fs::read_to_string(&file).expect("there")).expect("json");
        assert_eq!(signed.open(&key.public().into()), Some(of(3)));
        assert_eq!(signed.open(&SecretKey::from_seed(&[8; 32]).public().into()), None);
        std::fs::write(&file, "{}").expect("written");
        assert!(write(&of(9)).expect_err("damaged").to_string().contains("corrupted"));

        let wrong = [
            Metadata { v: 2, ..of(1) },
            Metadata { name: "n".repeat(51), ..of(1) },
            Metadata { url: "http://example.com".to_owned(), ..of(1) },
            Metadata { url: "https://example.com:8080/".to_owned(), ..of(1) },
            Metadata { url: "https://example.com/?q".to_owned(), ..of(1) },
            Metadata { email: "nobody".to_owned(), ..of(1) },
            Metadata { twitter: "@me".to_owned(), ..of(1) },
            Metadata { keybase: "k".repeat(33), ..of(1) },
        ];
        for metadata in wrong {
            assert!(metadata.check().is_err(), "{metadata:?}");
        }
        let full = Metadata {
            url: "https://my.entity/url".to_owned(),
            email: "my@entity.org".to_owned(),
            keybase: "my_keybase_handle".to_owned(),
            twitter: "my_twitter_handle".to_owned(),
            ..of(1)
        };
        full.check().expect("as the public list has them");
    }
}
