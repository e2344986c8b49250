//! An example of a signer plugin: keys in memory, or in the folder that the plugin's configuration names.
//!
//! Layer L5. Reference counterpart: `go/oasis-test-runner/scenario/pluginsigner/example_signer_plugin`, which has keys in
//! memory only. A real plugin would ask a hardware device instead; what it implements is `base_signer::plugin::Held`.
//!
//! Tested through `oasis-node`, whose tests sign with it, and by hand with the reference's runner.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use base_crypto::ed25519::SecretKey;
use base_crypto::hash::sha512_256;
use base_identity::{KeyRole, generate_key, load_key};
use base_service::errln;
use base_signer::plugin::{Held, serve};

/// What this plugin is called: `--signer.plugin.name`.
const NAME: &str = "example";
/// How the node is told that there is no key.
const MISSING: &str = "file does not exist";

/// The keys by role.
#[derive(Default)]
struct Example {
    folder: Option<PathBuf>,
    roles: Vec<KeyRole>,
    keys: HashMap<KeyRole, SecretKey>,
}

impl Example {
    fn key(&self, role: KeyRole) -> Result<&SecretKey, String> {
        self.keys.get(&role).ok_or_else(|| MISSING.to_owned())
    }

    fn make(&self, role: KeyRole) -> Result<SecretKey, String> {
        if let Some(folder) = &self.folder {
            return generate_key(folder, role).map_err(|error| error.to_string());
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
        Ok(SecretKey::from_seed(&seed))
    }
}

impl Held for Example {
    fn initialize(&mut self, config: &str, roles: &[KeyRole]) -> Result<(), String> {
        self.folder = (!config.is_empty()).then(|| config.into());
        self.roles = roles.to_vec();
        Ok(())
    }

    fn load(&mut self, role: KeyRole, must_generate: bool) -> Result<(), String> {
        if !self.roles.contains(&role) {
            return Err(format!("not initialized for {role:?} keys"));
        }
        if self.keys.contains_key(&role) {
            return if must_generate { Err("key already exists".to_owned()) } else { Ok(()) };
        }
        let key = match (&self.folder, must_generate) {
            (_, true) => self.make(role)?,
            (None, false) => return Err(MISSING.to_owned()),
            (Some(folder), false) => match load_key(folder, role) {
                Err(error) if error.is_not_found() => return Err(MISSING.to_owned()),
                key => key.map_err(|error| error.to_string())?,
            },
        };
        self.keys.insert(role, key);
        Ok(())
    }

    fn public(&mut self, role: KeyRole) -> Result<[u8; 32], String> {
        self.key(role).map(SecretKey::public)
    }

    fn sign(&mut self, role: KeyRole, context: &[u8], message: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.key(role)?.sign(&sha512_256(&[context, message])))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve(NAME, Example::default()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("{error}");
            ExitCode::FAILURE
        }
    }
}
