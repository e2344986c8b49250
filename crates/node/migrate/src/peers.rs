//! Addresses of peers, which named a hash of the key where today's name the key.

/// Stands where the operator must put the peer's public key.
pub(crate) const PLACEHOLDER: &str = "INSERT_P2P_PUBKEY_HERE";

/// Port of the runtime layer's network on a seed.
pub(crate) const P2P_PORT: &str = "9200";

/// Seeds that the network's pages named, and their public keys.
const KNOWN: [(&str, &str); 3] = [
    ("E27F6B7A350B4CC2B48A6CBE94B0A02B0DCB0BF3@35.199.49.168:26656", "H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU="),
    ("53572F689E5BACDD3C6527E6594EC49C8F3093F6@34.86.165.6:26656", "HcDFrTp/MqRHtju5bCx6TIhIMd6X/0ZQ3lUG73q5898="),
    ("05EAC99BB37F6DAAD4B13386FF5E087ACBDDC450@34.86.165.6:26656", "HcDFrTp/MqRHtju5bCx6TIhIMd6X/0ZQ3lUG73q5898="),
];

/// A peer in today's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Public key in base64, or [`PLACEHOLDER`].
    pub(crate) key: String,
    /// `IP:port`.
    pub(crate) address: String,
    /// Whether the key is known.
    pub(crate) known: bool,
}

impl Peer {
    /// From `ID@IP:port`, where the id may be a hash or a key.
    pub(crate) fn translate(text: &str) -> Self {
        let (id, address) = text.split_once('@').unwrap_or(("", text));
        let known = KNOWN.iter().find(|(old, _)| old.eq_ignore_ascii_case(text)).map(|(_, key)| *key);
        let key = known.or_else(|| is_key(id).then_some(id));
        Self { key: key.unwrap_or(PLACEHOLDER).to_owned(), address: address.to_owned(), known: key.is_some() }
    }

    /// `KEY@IP:port`.
    pub(crate) fn to_text(&self) -> String {
        format!("{}@{}", self.key, self.address)
    }

    /// The same host on the port of the runtime layer's network.
    pub(crate) fn on_p2p_port(&self) -> Option<String> {
        let (host, port) = self.address.rsplit_once(':')?;
        (port != P2P_PORT).then(|| format!("{}@{host}:{P2P_PORT}", self.key))
    }
}

/// Whether the text looks like a public key: 32 bytes in base64. Hashes of keys are 40 hex digits.
pub(crate) fn is_key(text: &str) -> bool {
    text.len() == 44 && text.ends_with('=') && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c))
}
