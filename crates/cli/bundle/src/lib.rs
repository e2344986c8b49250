//! Bundles of ParaTimes on the command line: made from binaries, shown, compared with descriptors, and signed.
//!
//! Layer L4. Both programs have these commands: `oasis bundle` and `oasis-node bundle`. Reference counterpart:
//! `go/runtime/bundle`, and the reference's tool of its own, whose command names these are; `compare` and `sgx-sign` are
//! additions.
//!
//! It reaches no network: where `compare` needs a descriptor, the program that has the commands asks for it, and gives the
//! options ([`Command`]'s parameter) that say whom.
//!
//! Main types: [`Command`], [`run`], [`BundleError`].
//!
//! Invariants: a bundle is written anew as a whole or not at all; equal inputs give equal bytes; a signature that does not
//! fit its statement is refused before anything is written.
//!
//! Tests: bundles made, signed both ways, compared and refused through the commands.

use std::path::{Path, PathBuf};

use base_codec::json;
use base_prims::{Namespace, Version};
use base_service::outln;
use clap::{Args, Subcommand};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, DecodeRsaPublicKey as _};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use rt_bundle::sigstruct::Sigstruct;
use rt_bundle::{Binary, Builder, Bundle, Mismatch, OpenOptions, Wrap, compare_with_deployment};
use sha2::{Digest as _, Sha256};
use wire_consensus::registry::Runtime;
use wire_consensus::tee::{MrEnclave, MrSigner};
use wire_runtime::bundle::{ComponentId, Sgx};

/// Attribute of an enclave: it runs in 64-bit mode.
const MODE_64_BIT: u64 = 4;
/// Attribute of an enclave: it may be debugged.
const DEBUG: u64 = 2;
/// Processor state that enclaves save: x87 and SSE.
const XFRM: u64 = 3;
/// Most bytes of a key or signature that are read.
const MAX_KEY_BYTES: u64 = 64 << 10;
/// Name of a signature in a bundle that has none yet.
const SIGNATURE_NAME: &str = "runtime.sig";

/// The commands. `S`: options that say whom to ask for a descriptor.
#[derive(Debug, Subcommand)]
pub enum Command<S: Args> {
    /// Create a bundle from a binary: an ELF executable, or an SGXS image
    Init(Init),
    /// Show the content of a bundle
    Show {
        /// The bundle.
        bundle: PathBuf,
    },
    /// Compare a bundle with the deployments in its ParaTime's descriptor
    Compare(Compare<S>),
    /// Write what an offline signer has to sign (32 bytes: the SHA-256 of the enclave's statement)
    SgxGenSignData {
        /// What is said about the enclave.
        #[command(flatten)]
        statement: Statement,
        /// Where it goes; shown in hexadecimal without it.
        #[arg(short = 'o', long)]
        output: Option<PathBuf>,
    },
    /// Put the signature of an offline signer into a bundle
    SgxSetSig {
        /// What is said about the enclave.
        #[command(flatten)]
        statement: Statement,
        /// The signature, 384 bytes.
        signature: PathBuf,
        /// The signer's public key, PEM.
        public_key: PathBuf,
    },
    /// Sign the enclave of a bundle
    SgxSign {
        /// What is said about the enclave.
        #[command(flatten)]
        statement: Statement,
        /// The private key, PEM: RSA, 3072 bits, exponent 3.
        private_key: PathBuf,
    },
}

impl<S: Args> Command<S> {
    /// Whether a node is to be asked.
    pub fn asks_network(&self) -> bool {
        matches!(self, Self::Compare(compare) if compare.descriptor.is_none())
    }
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The binary.
    binary: PathBuf,
    /// The ParaTime's identifier, 64 hexadecimal digits.
    #[arg(long)]
    runtime_id: Namespace,
    /// The enclave's image, beside an ELF executable.
    #[arg(long)]
    sgx_executable: Option<PathBuf>,
    /// The enclave's signature; beside NAME.sgxs it is looked for as NAME.sig.
    #[arg(long)]
    sgx_signature: Option<PathBuf>,
    /// Name for people.
    #[arg(long, default_value = "")]
    name: String,
    /// The version that the binary reports.
    #[arg(long)]
    version: Version,
    /// Where the bundle goes; by default the hash of its manifest in the current folder.
    #[arg(short = 'o', long)]
    output: Option<PathBuf>,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct Compare<S: Args> {
    /// The bundle.
    bundle: PathBuf,
    /// The descriptor, JSON; without it a node of the network is asked.
    #[arg(long)]
    descriptor: Option<PathBuf>,
    #[command(flatten)]
    node: S,
}

/// What is said about an enclave, and signed.
#[derive(Debug, Args)]
pub struct Statement {
    /// The bundle; commands that change it write it anew.
    bundle: PathBuf,
    /// The component: ronl, or rofl.NAME.
    #[arg(long, default_value = "ronl")]
    component: ComponentId,
    /// Date of the build, as it is signed.
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: String,
    /// Product.
    #[arg(long, default_value_t = 0)]
    isv_prod_id: u16,
    /// Security version.
    #[arg(long, default_value_t = 0)]
    isv_svn: u16,
    /// The enclave may be debugged (test networks).
    #[arg(long)]
    debug: bool,
}

/// Why a command failed: one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file could not be used.
    #[error("could not {action} {}: {source}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The bundle and the descriptor are of different ParaTimes.
    #[error("the bundle is of ParaTime {bundle}, the descriptor of {descriptor}")]
    OtherRuntime {
        /// The bundle's.
        bundle: Namespace,
        /// The descriptor's.
        descriptor: Namespace,
    },
    /// No deployment fixes this bundle.
    #[error("the bundle matches no deployment")]
    NoDeployment,
    /// Anything else, said in full.
    #[error("{0}")]
    Message(String),
}

type Result<T> = std::result::Result<T, BundleError>;

impl BundleError {
    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    fn content(path: &Path, reason: impl Into<String>) -> Self {
        Self::Content { path: path.into(), reason: reason.into() }
    }
}

/// Runs a command. `fetch` asks a node for the descriptor of a ParaTime, if [`Command::asks_network`].
///
/// # Errors
/// What failed; nothing was written then.
pub fn run<S: Args>(
    command: Command<S>,
    fetch: impl FnOnce(&S, Namespace) -> std::result::Result<Runtime, String>,
) -> Result<()> {
    match command {
        Command::Init(init) => create(&init),
        Command::Show { bundle } => show(&bundle),
        Command::Compare(compare) => compare_deployments(&compare, fetch),
        Command::SgxGenSignData { statement, output } => {
            let (_, sigstruct) = statement.open()?;
            let data = sigstruct.hash_for_signature();
            match output {
                Some(path) => std::fs::write(&path, data).map_err(BundleError::file("write", path)),
                None => {
                    outln!("{}", hex::encode(data));
                    Ok(())
                }
            }
        }
        Command::SgxSetSig { statement, signature, public_key } => {
            let (bundle, sigstruct) = statement.open()?;
            let key = public_key_of(&public_key)?;
            let signature = read(&signature)?;
            let signed = sigstruct.with_signature(&key.n().to_bytes_be(), &signature).map_err(said)?;
            statement.store(bundle, signed)
        }
        Command::SgxSign { statement, private_key } => {
            let (bundle, sigstruct) = statement.open()?;
            let key = private_key_of(&private_key)?;
            let scheme = Pkcs1v15Sign::new::<rsa::sha2::Sha256>();
            let signature = key.sign(scheme, &sigstruct.hash_for_signature()).map_err(said)?;
            let signed = sigstruct.with_signature(&key.n().to_bytes_be(), &signature).map_err(said)?;
            statement.store(bundle, signed)
        }
    }
}

/// The signer of enclaves that anybody may sign, on test networks.
fn test_signer() -> MrSigner {
    MrSigner::new(*rt_tee::TEST_MR_SIGNER.as_bytes())
}

fn said(e: impl std::fmt::Display) -> BundleError {
    BundleError::Message(e.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut out = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_BYTES).read_to_end(&mut out))
        .map_err(BundleError::file("read", path))?;
    Ok(out)
}

/// The content of a PEM file with one block, and the block's label.
fn pem(path: &Path) -> Result<(String, zeroize::Zeroizing<Vec<u8>>)> {
    use base64::Engine as _;
    let text = zeroize::Zeroizing::new(read(path)?);
    let malformed = || BundleError::content(path, "not a PEM file with one key");
    let text = std::str::from_utf8(&text).map_err(|_| malformed())?;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or_else(malformed)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(malformed)?;
    let (body, _) = rest.split_once("-----END ").ok_or_else(malformed)?;
    let body: zeroize::Zeroizing<String> = body.split_whitespace().collect::<String>().into();
    let der = base64::engine::general_purpose::STANDARD.decode(&*body).map_err(|_| malformed())?;
    Ok((label.to_owned(), der.into()))
}

fn private_key_of(path: &Path) -> Result<RsaPrivateKey> {
    let wrong = |e: String| BundleError::content(path, format!("no RSA private key: {e}"));
    let (label, der) = pem(path)?;
    match label.as_str() {
        "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der).map_err(|e| wrong(e.to_string())),
        "PRIVATE KEY" => RsaPrivateKey::from_pkcs8_der(&der).map_err(|e| wrong(e.to_string())),
        other => Err(wrong(format!("the file holds a {other}"))),
    }
}

fn public_key_of(path: &Path) -> Result<RsaPublicKey> {
    let wrong = |e: String| BundleError::content(path, format!("no RSA public key: {e}"));
    let (label, der) = pem(path)?;
    match label.as_str() {
        "RSA PUBLIC KEY" => RsaPublicKey::from_pkcs1_der(&der).map_err(|e| wrong(e.to_string())),
        "PUBLIC KEY" => RsaPublicKey::from_public_key_der(&der).map_err(|e| wrong(e.to_string())),
        other => Err(wrong(format!("the file holds a {other}"))),
    }
}

fn open(path: &Path) -> Result<Bundle> {
    Bundle::open(path, &OpenOptions::default()).map_err(said)
}

fn create(init: &Init) -> Result<()> {
    let mut binary = Binary::detect(&init.binary).map_err(said)?;
    binary = match (binary, &init.sgx_executable) {
        (Binary::Elf(elf), Some(image)) => {
            let mut enclave = Binary::detect(image).map_err(said)?;
            let Binary::Sgxs { elf: beside, .. } = &mut enclave else {
                return Err(BundleError::content(image, "not an SGXS image"));
            };
            *beside = Some(elf);
            enclave
        }
        (Binary::Sgxs { .. }, Some(_)) => return Err(said("the binary is an SGXS image itself")),
        (binary, None) => binary,
    };
    match (&mut binary, &init.sgx_signature) {
        (Binary::Sgxs { signature, .. }, Some(path)) => *signature = Some(path.clone()),
        (Binary::Elf(_), Some(_)) => return Err(said("an ELF executable has no enclave signature")),
        _ => {}
    }
    let wrap = Wrap { runtime_id: init.runtime_id, name: init.name.clone(), version: Some(init.version), binary };
    let mut builder = wrap.to_builder().map_err(said)?;
    let output = init.output.clone().unwrap_or_else(|| builder.manifest().file_name().into());
    let hash = builder.write(&output).map_err(said)?;
    outln!("Created {}", output.display());
    outln!("Manifest hash: {hash}");
    Ok(())
}

fn show(path: &Path) -> Result<()> {
    let mut bundle = open(path)?;
    let manifest = bundle.manifest().clone();
    outln!("Bundle:         {}", path.display());
    outln!("Name:           {}", manifest.name);
    outln!("Runtime ID:     {}", manifest.id);
    outln!("Manifest hash:  {}", bundle.manifest_hash());
    outln!("Components:");
    for (id, component) in manifest.available_components() {
        outln!("  - {id}");
        outln!("    Version: {}", component.version);
        outln!("    TEE:     {}", component.tee_kind());
        if component.disabled {
            outln!("    Disabled by default");
        }
        for (what, name) in component.files() {
            outln!("    {what}: {name}");
        }
        if component.sgx.is_some() || !component.identities.is_empty() {
            match bundle.enclave_identities(&id, Some(test_signer())) {
                Ok(identities) => identities.iter().for_each(|identity| {
                    let test = if identity.mr_signer == test_signer() { " (test signer)" } else { "" };
                    outln!("    Enclave: {identity}{test}");
                }),
                Err(e) => outln!("    Enclave: {e}"),
            }
        }
    }
    outln!("Digests:");
    for (name, digest) in manifest.digests.iter().flatten() {
        outln!("  {digest} {name}");
    }
    Ok(())
}

fn compare_deployments<S: Args>(
    compare: &Compare<S>,
    fetch: impl FnOnce(&S, Namespace) -> std::result::Result<Runtime, String>,
) -> Result<()> {
    let bundle = open(&compare.bundle)?;
    let manifest = bundle.manifest();
    let runtime: Runtime = match &compare.descriptor {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(BundleError::file("read", path))?;
            json::from_str(&text).map_err(|e| BundleError::content(path, e.to_string()))?
        }
        None => fetch(&compare.node, manifest.id).map_err(said)?,
    };
    if runtime.id != manifest.id {
        return Err(BundleError::OtherRuntime { bundle: manifest.id, descriptor: runtime.id });
    }
    let mut matches = false;
    for deployment in runtime.deployments() {
        let differences = compare_with_deployment(manifest, deployment);
        let from = deployment.valid_from;
        match differences.as_slice() {
            [] => {
                matches = true;
                outln!("Deployment {} (from epoch {from}): matches", deployment.version);
            }
            // Older deployments fix no bundle.
            [Mismatch::NoChecksum] => outln!("Deployment {} (from epoch {from}): fixes no bundle", deployment.version),
            several => {
                let texts: Vec<String> = several.iter().map(ToString::to_string).collect();
                outln!("Deployment {} (from epoch {from}): {}", deployment.version, texts.join("; "));
            }
        }
    }
    if matches { Ok(()) } else { Err(BundleError::NoDeployment) }
}

impl Statement {
    /// The bundle, and what is to be said about its enclave.
    fn open(&self) -> Result<(Bundle, Sigstruct)> {
        let mut bundle = open(&self.bundle)?;
        let sgx = self.sgx(&bundle)?;
        let mut measuring = Measuring(Sha256::new());
        bundle.copy(&sgx.executable, &mut measuring).map_err(said)?;
        let debug = if self.debug { DEBUG } else { 0 };
        let statement = Sigstruct {
            build_date: date(&self.date)?,
            misc_select_mask: u32::MAX,
            attributes: [MODE_64_BIT | debug, XFRM],
            attributes_mask: [u64::MAX, u64::MAX],
            enclave_hash: MrEnclave::new(measuring.0.finalize().into()),
            isv_prod_id: self.isv_prod_id,
            isv_svn: self.isv_svn,
            ..Sigstruct::default()
        };
        Ok((bundle, statement))
    }

    fn sgx(&self, bundle: &Bundle) -> Result<Sgx> {
        let id = &self.component;
        let component = bundle.manifest().component(id).ok_or_else(|| said(format!("there is no component {id}")))?;
        component.sgx.ok_or_else(|| said(format!("component {id} has no SGX part")))
    }

    /// Writes the bundle with the signature in the place of the one it had.
    fn store(&self, mut bundle: Bundle, signature: Vec<u8>) -> Result<()> {
        let sgx = self.sgx(&bundle)?;
        let mut manifest = bundle.manifest().clone();
        let taken = |name: &str| bundle.names().iter().any(|other| other == name);
        let name = match sgx.signature.as_str() {
            "" if taken(SIGNATURE_NAME) => format!("{}.{SIGNATURE_NAME}", self.component),
            "" => SIGNATURE_NAME.to_owned(),
            name => name.to_owned(),
        };
        let wanted = &self.component;
        let component = manifest.components.iter_mut().find(|c| c.id().as_ref() == Some(wanted));
        let part = component.map_or(manifest.sgx.as_mut(), |component| component.sgx.as_mut());
        part.ok_or_else(|| said("the manifest has no SGX part"))?.signature = name.clone();
        let mut builder = Builder::new(manifest);
        let files = tempfile::tempdir().map_err(BundleError::file("create", "a temporary folder"))?;
        for file in bundle.names().into_iter().filter(|file| *file != name) {
            let path = files.path().join(&file);
            let mut copy = std::fs::File::create(&path).map_err(BundleError::file("create", &path))?;
            bundle.copy(&file, &mut copy).map_err(said)?;
            builder.add_file(&file, &path).map_err(said)?;
        }
        builder.add_bytes(&name, signature).map_err(said)?;
        let hash = builder.write(&self.bundle).map_err(said)?;
        outln!("Signed component {} of {}", self.component, self.bundle.display());
        outln!("Manifest hash: {hash}");
        Ok(())
    }
}

/// Measures an enclave's image.
struct Measuring(Sha256);

impl std::io::Write for Measuring {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn date(text: &str) -> Result<(u16, u8, u8)> {
    let parts: Vec<&str> = text.split('-').collect();
    let read = || -> Option<(u16, u8, u8)> {
        let [year, month, day] = parts.as_slice() else { return None };
        let date = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        ((1..=9999).contains(&date.0) && (1..=12).contains(&date.1) && (1..=31).contains(&date.2)).then_some(date)
    };
    read().ok_or_else(|| said(format!("{text:?} is no date of the form YYYY-MM-DD")))
}

#[cfg(test)]
mod tests;
