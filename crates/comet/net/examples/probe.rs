//! Dials a node and prints what it tells: node info, range of blocks, one block, addresses.
//!
//! `cargo run -p comet-net --example probe -- CHAIN_ID MODE [ADDRESS]`, where the mode is one of
//! * `dial KEY_OR_ID@HOST:PORT`: dials the node;
//! * `listen HOST:PORT`: waits for a node to dial;
//! * `find KEY_OR_ID@HOST:PORT`: asks the seed for addresses and dials those;
//! * `seed HOST:PORT KEY_OR_ID@HOST:PORT`: is a seed that learns from another one.
//!
//! Fixed keys are used for listening, so that other nodes can be told beforehand.

use std::sync::Arc;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use bytes::Bytes;
use comet_net::address::{AddressError, parse_listen};
use comet_net::node_info::node_info;
use comet_net::{ChannelDescriptor, DropPeer, NetConfig, Peer, PeerAddress, Reactor, Switch};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use wire_cometbft::blocksync::{BlockRequest, BlocksyncMessage, BlocksyncMessageSum, StatusRequest};
use wire_cometbft::codec::Message;
use wire_cometbft::p2p::{PexMessage, PexMessageSum, PexRequest};

const BLOCKSYNC: u8 = 0x40;
const PEX: u8 = 0x00;

/// Height of the block asked for.
const HEIGHT: i64 = 2;

struct Probe {
    /// Whether peer exchange is up to the probe.
    pex: bool,
}

fn request(sum: BlocksyncMessageSum) -> Bytes {
    Bytes::from(BlocksyncMessage::from(sum).encode_to_vec())
}

impl Reactor for Probe {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        let mut channels =
            vec![ChannelDescriptor { id: BLOCKSYNC, priority: 5, send_queue: 1000, max_message: 100 << 20 }];
        if self.pex {
            channels.push(ChannelDescriptor { id: PEX, priority: 1, send_queue: 10, max_message: 64_000 });
        }
        channels
    }

    fn add_peer(&self, peer: &Peer) {
        println!("connected: {peer:?}\n{:#?}", peer.node_info());
        peer.try_send(BLOCKSYNC, request(BlocksyncMessageSum::StatusRequest(StatusRequest {})));
        peer.try_send(BLOCKSYNC, request(BlocksyncMessageSum::BlockRequest(BlockRequest { height: HEIGHT })));
        if self.pex {
            let request = PexMessage::from(PexMessageSum::Request(PexRequest {}));
            peer.try_send(PEX, Bytes::from(request.encode_to_vec()));
        }
    }

    fn remove_peer(&self, peer: &Peer, reason: &str) {
        println!("gone: {peer:?}: {reason}\n{:#?}", peer.status());
    }

    fn receive<'a>(&'a self, channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        Box::pin(async move {
            println!("{:?}: {} bytes on {channel:#04x}", peer.connected_for(), message.len());
            if channel == PEX {
                match PexMessage::decode(&message).map(|message| message.sum) {
                    Ok(Some(PexMessageSum::Addrs(answer))) => println!("addresses: {:?}", answer.addrs),
                    other => println!("{other:?}"),
                }
                return Ok(());
            }
            match BlocksyncMessage::decode(&message).map(|message| message.sum) {
                Ok(Some(BlocksyncMessageSum::BlockResponse(response))) => match response.block {
                    Some(block) => println!("block: {:#?}", block.header),
                    None => println!("block response without block"),
                },
                Ok(Some(BlocksyncMessageSum::StatusRequest(_))) => println!("status request"),
                other => println!("{other:?}"),
            }
            Ok(())
        })
    }
}

fn node(text: &str) -> Result<PeerAddress, AddressError> {
    PeerAddress::parse(text).or_else(|_| PeerAddress::parse_with_key(text))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut config =
        NetConfig { pex: false, addr_book_strict: false, allow_duplicate_ip: true, ..NetConfig::default() };
    let mut key = [7; 32];
    let (chain, dial, seconds) = match arguments.as_slice() {
        [chain, "dial", address] => (chain, Some(node(address)?), 5),
        [chain, "listen", address] => {
            config.listen = Some(parse_listen(address)?);
            (chain, None, 60)
        }
        [chain, "find", seed] => {
            config.seeds = vec![node(seed)?];
            config.pex = true;
            (chain, None, 20)
        }
        [chain, "seed", address, other] => {
            config.listen = Some(parse_listen(address)?);
            config.seeds = vec![node(other)?];
            config.seed_mode = true;
            (chain, None, 60)
        }
        _ => return Err("CHAIN_ID (dial NODE | listen ADDRESS | find SEED | seed ADDRESS SEED)".into()),
    };
    if config.listen.is_none() {
        getrandom::fill(&mut key).map_err(|_| "no randomness")?;
    }
    let stop = CancellationToken::new();
    let probe = Arc::new(Probe { pex: !config.pex }) as Arc<dyn Reactor>;
    let reactors = if config.seed_mode { Vec::new() } else { vec![probe] };
    let info = node_info(chain, "probe", 7 << 32);
    let handle = Switch::start(config, SecretKey::from_seed(&key), info, reactors, stop.clone()).await?;
    println!("our id: {}", handle.id().0);
    if let Some(address) = dial {
        handle.dial(&address).await?;
    }
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("addresses known: {}, peers: {:?}", handle.known_addresses(), handle.peers());
    stop.cancel();
    handle.stopped().await;
    Ok(())
}
