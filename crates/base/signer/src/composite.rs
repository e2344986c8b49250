//! One back end per role.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base_crypto::ed25519::SecretKey;
use base_identity::{KeyRole, KeySource, KeySourceError};

use crate::role::{ROLES, Role};
use crate::{SignerConfig, SignerError, open_one};

/// A combination of back ends. Reference: `signers/composite`.
pub struct Composite {
    sources: Vec<(KeyRole, Arc<dyn KeySource>)>,
}

impl std::fmt::Debug for Composite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|(role, _)| role)).finish()
    }
}

/// Splits `ROLE:BACKEND,…`.
fn parse(text: &str) -> Result<BTreeMap<String, Vec<KeyRole>>, String> {
    let mut backends: BTreeMap<String, Vec<KeyRole>> = BTreeMap::new();
    let mut seen = Vec::new();
    for part in text.split(',') {
        let Some((name, backend)) = part.split_once(':').filter(|(_, backend)| !backend.contains(':')) else {
            return Err(format!("malformed role assignment {part:?}: expected ROLE:BACKEND"));
        };
        let role = Role::named(name).ok_or_else(|| {
            let names: Vec<_> = ROLES.iter().map(|(_, _, name)| *name).collect();
            format!("invalid role {name:?} (valid roles are: {})", names.join(", "))
        })?;
        if seen.contains(&role) {
            return Err(format!("multiple backends configured for role: {name}"));
        }
        seen.push(role);
        backends.entry(backend.to_ascii_lowercase()).or_default().push(role);
    }
    Ok(backends)
}

impl Composite {
    /// Opens every back end once, for the roles that it has; all of `roles` must have one.
    pub(crate) fn open(config: &SignerConfig, dir: &Path, roles: &[KeyRole]) -> Result<Self, SignerError> {
        let backends = parse(&config.composite).map_err(SignerError::Composite)?;
        let has = |role| backends.values().flatten().any(|known| *known == role);
        if let Some((_, _, name)) = ROLES.iter().find(|(role, _, _)| roles.contains(role) && !has(*role)) {
            return Err(SignerError::Composite(format!("no backend configured for role: {name}")));
        }
        let mut sources = Vec::new();
        for (backend, mine) in backends {
            let needed: Vec<_> = mine.into_iter().filter(|role| roles.contains(role)).collect();
            if needed.is_empty() {
                continue;
            }
            let source: Arc<dyn KeySource> = open_one(&backend, config, dir, &needed)?.into();
            sources.extend(needed.into_iter().map(|role| (role, source.clone())));
        }
        Ok(Self { sources })
    }

    fn source(&self, role: KeyRole) -> Result<&dyn KeySource, KeySourceError> {
        let found = self.sources.iter().find(|(known, _)| *known == role);
        found
            .map(|(_, source)| &**source)
            .ok_or_else(|| KeySourceError::Signer(format!("no backend for {role:?} keys")))
    }
}

impl KeySource for Composite {
    fn load(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        self.source(role)?.load(role)
    }

    fn generate(&self, role: KeyRole) -> Result<SecretKey, KeySourceError> {
        self.source(role)?.generate(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_checked() {
        let parsed = parse("node:file,p2p:FILE,consensus:remote").unwrap();
        assert_eq!(parsed["file"], [KeyRole::Node, KeyRole::P2p]);
        assert_eq!(parsed["remote"], [KeyRole::Consensus]);
        for (text, expected) in [
            ("", "expected ROLE:BACKEND"),
            ("node", "expected ROLE:BACKEND"),
            ("node:file:x", "expected ROLE:BACKEND"),
            ("nodes:file", "valid roles are: entity, node, p2p, consensus, vrf"),
            ("node:file,node:remote", "multiple backends configured for role: node"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn each_role_goes_to_its_back_end() {
        let dir = tempfile::tempdir().unwrap();
        let config = |composite: &str| SignerConfig {
            backend: "Composite".to_owned(),
            composite: composite.to_owned(),
            ..SignerConfig::default()
        };
        let roles = [KeyRole::Node, KeyRole::P2p];
        let source = crate::open(&config("node:file,p2p:file,vrf:nonsense"), dir.path(), &roles).unwrap();
        let made = source.generate(KeyRole::Node).unwrap();
        assert_eq!(source.load(KeyRole::Node).unwrap().public(), made.public());
        assert!(source.load(KeyRole::P2p).is_err_and(|error| matches!(error, KeySourceError::File(_))));
        assert!(source.load(KeyRole::Vrf).is_err());
        let refuse = |text: &str, expected: &str| {
            let error = crate::open(&config(text), dir.path(), &roles).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
        };
        refuse("node:file", "no backend configured for role: p2p");
        refuse("node:file,p2p:memory", "unsupported signer backend: memory");
        refuse("node:file,p2p:composite", "unsupported signer backend: composite");
    }
}
