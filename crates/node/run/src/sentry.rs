//! Sentries, from both sides: a sentry tells the validators behind it where the network reaches it, and a validator with
//! sentries registers their addresses instead of its own.
//!
//! Reference: `go/worker/sentry`, `go/sentry`, `go/worker/registration` (`querySentries`).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use apps_core::submit::BoxFuture;
use base_codec::Codec;
use base_grpc::{Address, Cbor, Client, ClientTls, Code, Listener, Router, RpcError, ServerTls};
use base_identity::{COMMON_NAME, Identity, TlsIdentity};
use base_prims::PublicKey;
use node_config::Config;
use node_workers::registration::Addresses;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire_consensus::node::{ConsensusAddress, NetAddress};

use crate::addresses::OwnAddresses;
use crate::error::RunError;

/// Full name of the service.
const SERVICE: &str = "oasis-core.Sentry";
/// How long a sentry may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a sentry says of itself.
#[derive(Debug, Clone, Default, PartialEq, Codec)]
#[codec(cbor_only)]
struct SentryAddresses {
    consensus: Option<Vec<ConsensusAddress>>,
}

fn keys(config: &Config) -> Result<Vec<[u8; 32]>, RunError> {
    let parse = |text: &String| {
        let key: Result<PublicKey, _> = text.parse();
        key.map(|key| *key.as_bytes()).map_err(|error| RunError::Address {
            key: "sentry.control.authorized_pubkeys",
            reason: format!("{text:?}: {error}"),
        })
    };
    config.sentry.control.authorized_pubkeys.iter().map(parse).collect()
}

fn router(allowed: Vec<[u8; 32]>, addresses: impl Fn() -> Vec<ConsensusAddress> + Send + Sync + 'static) -> Router {
    let mut router = Router::new();
    router.unary(SERVICE, "GetAddresses", move |(): ()| {
        let consensus = Some(addresses());
        async move { Ok(Cbor(SentryAddresses { consensus })) }
    });
    router.guard(move |_, caller| match caller.tls_key {
        Some(key) if allowed.contains(&key) => Ok(()),
        Some(key) => {
            let text = format!("tls: bad public key ({})", PublicKey::from(key));
            Err(RpcError::with(Code::PermissionDenied, text))
        }
        None => Err(RpcError::with(Code::PermissionDenied, "tls: expecting a single certificate (got: 0)")),
    });
    router
}

/// Serves on the control port, if the node is a sentry.
pub(crate) async fn serve(
    config: &Config,
    identity: &Identity,
    addresses: &OwnAddresses,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    if !config.sentry.enabled {
        return Ok(());
    }
    let own = addresses.clone();
    let router = router(keys(config)?, move || own.find().into_iter().collect());
    let failed = |reason: String| RunError::Address { key: "sentry.control.port", reason };
    let tls = ServerTls::new(&identity.tls, COMMON_NAME).map_err(|error| failed(error.to_string()))?;
    let port = config.sentry.control.port;
    // Both families where there are both.
    let listener = match Listener::tls((Ipv6Addr::UNSPECIFIED, port).into(), tls.clone()).await {
        Ok(listener) => listener,
        Err(_) => Listener::tls((Ipv4Addr::UNSPECIFIED, port).into(), tls)
            .await
            .map_err(|error| failed(format!("{port}: {error}")))?,
    };
    tracing::info!(module = "worker/sentry", port, "sentry control server started");
    tasks.spawn(base_grpc::serve(listener, Arc::new(router), stop.child_token()));
    Ok(())
}

/// A sentry of this node.
#[derive(Clone)]
struct Sentry {
    address: String,
    tls: ClientTls,
}

/// The addresses of a node behind sentries.
struct Behind {
    own: OwnAddresses,
    sentries: Vec<Sentry>,
}

/// Where the node registers: at its sentries if it has any, at itself otherwise.
pub(crate) fn addresses(
    config: &Config,
    identity: &Identity,
    own: OwnAddresses,
) -> Result<Arc<dyn Addresses>, RunError> {
    let sentries = connections(&config.runtime.sentry_addresses, &identity.sentry_client_tls)?;
    Ok(if sentries.is_empty() { Arc::new(own) } else { Arc::new(Behind { own, sentries }) })
}

fn connections(texts: &[String], identity: &TlsIdentity) -> Result<Vec<Sentry>, RunError> {
    let wrong = |reason: String| RunError::Address { key: "runtime.sentry_addresses", reason };
    let parse = |text: &String| {
        let (key, address) = text.split_once('@').ok_or_else(|| wrong(format!("{text:?}: expected PUBKEY@IP:PORT")))?;
        let key: PublicKey = key.parse().map_err(|error| wrong(format!("{text:?}: {error}")))?;
        let tls = ClientTls::node(Some(identity), vec![*key.as_bytes()]).map_err(|error| wrong(error.to_string()))?;
        Ok(Sentry { address: address.to_owned(), tls })
    };
    texts.iter().map(parse).collect()
}

impl Sentry {
    async fn ask(&self) -> Result<Vec<ConsensusAddress>, String> {
        let address = Address::Tcp(self.address.clone());
        let asking = async {
            let client = Client::connect_tls(&address, self.tls.clone()).await.map_err(|error| error.to_string())?;
            let answer = client.call(SERVICE, "GetAddresses", &()).await.map_err(|error| error.to_string())?;
            let Cbor(SentryAddresses { consensus }) = answer;
            Ok(consensus.unwrap_or_default())
        };
        tokio::time::timeout(ASK_TIMEOUT, asking).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

async fn ask_all(sentries: Vec<Sentry>) -> Result<Vec<ConsensusAddress>, String> {
    let mut asked = JoinSet::new();
    for sentry in sentries {
        asked.spawn(async move { (sentry.ask().await, sentry.address) });
    }
    let mut found = Vec::new();
    while let Some(joined) = asked.join_next().await {
        let Ok((answer, sentry)) = joined else { continue };
        match answer {
            Ok(addresses) => found.extend(addresses),
            Err(error) => {
                let what = "failed to obtain addresses from sentry node";
                tracing::warn!(module = "worker/registration", sentry, err = %error, "{what}");
            }
        }
    }
    if found.is_empty() {
        return Err("failed to obtain any consensus address from the configured sentry nodes".to_owned());
    }
    Ok(found)
}

impl Addresses for Behind {
    fn consensus(&self) -> BoxFuture<'_, Result<Vec<ConsensusAddress>, String>> {
        Box::pin(ask_all(self.sentries.clone()))
    }

    fn p2p(&self) -> Vec<NetAddress> {
        self.own.p2p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_crypto::ed25519::SecretKey;

    fn identity(seed: u8) -> TlsIdentity {
        TlsIdentity::issue(SecretKey::from_seed(&[seed; 32]), crate::start::now_unix()).unwrap()
    }

    fn address(text: &str) -> ConsensusAddress {
        ConsensusAddress { id: PublicKey::from([7; 32]), address: text.parse().unwrap() }
    }

    #[tokio::test]
    async fn a_validator_learns_its_sentries_addresses_and_nobody_else_does() {
        let (sentry, validator) = (identity(1), identity(2));
        let stop = CancellationToken::new();
        let router = router(vec![validator.public()], || vec![address("1.2.3.4:26656")]);
        let tls = ServerTls::new(&sentry, COMMON_NAME).unwrap();
        let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(base_grpc::serve(listener, Arc::new(router), stop.clone()));
        let text = format!("{}@{at}", PublicKey::from(sentry.public()));
        // A second sentry that is away costs nothing.
        let away = format!("{}@127.0.0.1:1", PublicKey::from(sentry.public()));
        let mine = connections(&[away.clone(), text.clone()], &validator).unwrap();
        assert_eq!(ask_all(mine).await.unwrap(), [address("1.2.3.4:26656")]);
        // Another client, another server's key, no sentry at all.
        let other = connections(std::slice::from_ref(&text), &identity(3)).unwrap();
        let error = other[0].ask().await.unwrap_err();
        assert!(error.contains("bad public key"), "{error}");
        assert!(ask_all(other).await.is_err());
        let wrong = format!("{}@{at}", PublicKey::from(identity(4).public()));
        assert!(ask_all(connections(&[wrong], &validator).unwrap()).await.is_err());
        assert!(ask_all(connections(&[away], &validator).unwrap()).await.is_err());
        assert!(connections(&["127.0.0.1:1".to_owned()], &validator).is_err());
        stop.cancel();
        task.await.unwrap();
    }
}
