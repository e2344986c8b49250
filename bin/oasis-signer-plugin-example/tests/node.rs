//! A validator whose keys a plugin holds.

#[path = "../../oasis-remote-signer/tests/node/alone.rs"]
mod alone;

use alone::Alone;
use base_signer::{PluginConfig, SignerConfig};
use node_run::Ended;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_signs_everything_through_a_plugin() {
    let alone = Alone::new(27_400, &["identity.pem", "p2p.pem", "consensus.pem"]);
    let signer = SignerConfig {
        backend: "composite".to_owned(),
        composite: "node:plugin,p2p:plugin,consensus:plugin,vrf:file".to_owned(),
        plugin: PluginConfig {
            name: "example".to_owned(),
            path: env!("CARGO_BIN_EXE_oasis-signer-plugin-example").into(),
            config: alone.held.display().to_string(),
        },
        ..SignerConfig::default()
    };
    // Through an epoch, so that it has registered and proven randomness by itself.
    let stop = CancellationToken::new();
    let ended = alone.start(signer, &stop).await;
    alone.reached(25).await;
    assert!(alone.signed() >= 25);
    stop.cancel();
    assert_eq!(ended.await.expect("it ends"), Ended::Requested);
    assert!(!alone.node.dir.join("consensus.pem").exists(), "no key came back into the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_alone_can_not_serve_a_node() {
    let alone = Alone::new(27_420, &[]);
    let path = env!("CARGO_BIN_EXE_oasis-signer-plugin-example");
    let plugin = PluginConfig { name: "example".to_owned(), path: path.into(), config: String::new() };
    let signer = SignerConfig { backend: "plugin".to_owned(), plugin, ..SignerConfig::default() };
    let refused = alone.try_start(signer, &CancellationToken::new()).await.err();
    assert!(refused.is_some_and(|error| error.to_string().contains("vrf:file")));
}
