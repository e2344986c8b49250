//! Runs a seed for a while and prints who registers.
//!
//! Usage: `seed <port> <seconds>`

use std::time::Duration;

use p2p_net::config::Config;
use p2p_net::seed::SeedNode;
use p2p_net::{Keypair, PublicKey};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, seconds] = args.as_slice() else { return Err("usage: seed <port> <seconds>".into()) };
    let mut config = Config::new(port.parse()?, "oasis-core/seed");
    config.allow_private_ips = true;
    // A fixed key, so that others can be told of it beforehand.
    let secret = base_crypto::ed25519::SecretKey::from_seed(&[7; 32]);
    let key: Keypair = secret.into();
    let public: PublicKey = key.public();
    println!("public key {public:?}");
    let seed = SeedNode::start(config, key, CancellationToken::new()).await?;
    for _ in 0..seconds.parse::<u64>()? {
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{} peers connected; registered: {:?}", seed.node().status().num_peers, seed.peers());
    }
    seed.stop().await;
    Ok(())
}
