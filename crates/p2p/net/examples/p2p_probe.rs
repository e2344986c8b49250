//! Connects to a node and prints what it says of itself, what a seed knows, and a light block.
//!
//! Usage: `probe <tls|noise> <pubkey@ip:port> <chain context> <chain id> [height]`

use std::sync::Arc;
use std::time::Duration;

use base_codec::cbor;
use p2p_net::api::{CallLimits, P2p};
use p2p_net::bootstrap::{ADVERTISE, AdvertiseRequest, AdvertiseResponse, DISCOVER, DiscoverRequest, DiscoverResponse};
use p2p_net::config::{Config, Security};
use p2p_net::light::ProviderPool;
use p2p_net::rpc::Client;
use p2p_net::{Keypair, Node, address, ids};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [security, target, chain, chain_id, rest @ ..] = args.as_slice() else {
        return Err("usage: probe <tls|noise> <pubkey@ip:port> <chain context> <chain id> [height]".into());
    };
    let height: i64 = rest.first().map_or(Ok(0), |h| h.parse())?;
    let mut config = Config::new(0, "oasis-core/probe");
    config.listen = vec!["127.0.0.1:0".parse()?];
    config.security = if security == "tls" { Security::TlsOnly } else { Security::NoiseOnly };
    let node = Node::start(config, Keypair::generate_ed25519(), CancellationToken::new()).await?;
    let peer = address::parse_peers(&[target])?.remove(0);
    node.connect(&peer).await?;
    println!("connected by {security} to {}", peer.id);
    while !node.is_identified(&peer.id) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{:#?}", node.describe(&peer.id));
    let p2p: Arc<dyn P2p> = Arc::new(node.clone());
    let seed = Client::new(p2p.clone(), ids::bootstrap());
    let namespace = ids::LIGHT.of_chain(chain).to_string();
    let limits = CallLimits::default();
    let request = AdvertiseRequest { namespace: namespace.clone() };
    match seed.call::<AdvertiseResponse>(peer.id, ADVERTISE, &request, limits).await {
        Ok((answer, _)) => println!("advertise: {answer:?}"),
        Err(error) => println!("advertise: {error}"),
    }
    match seed.call::<DiscoverResponse>(peer.id, DISCOVER, &DiscoverRequest { namespace, limit: 0 }, limits).await {
        Ok((answer, _)) => answer.peers.iter().for_each(|p| println!("peer: {}", String::from_utf8_lossy(p))),
        Err(error) => println!("discover: {error}"),
    }
    let provider = ProviderPool::new(p2p, chain, chain_id).provider();
    match provider.light_block_from(height).await {
        Ok((block, _)) => println!("light block: {:?}", block.0.signed_header.and_then(|h| h.header)),
        Err(error) => println!("light block: {error}"),
    }
    match provider.parameters(height).await {
        Ok((p, _)) => println!("parameters: {} {:?} {}", p.height, p.parameters, hex(&cbor::to_vec(&p.meta))),
        Err(error) => println!("parameters: {error}"),
    }
    match provider.validators(height).await {
        Ok((v, _)) => println!("validators: {} {} bytes", v.height, v.meta.map_or(0, |m| m.len())),
        Err(error) => println!("validators: {error}"),
    }
    node.stop().await;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
