//! Floods a node that one runs oneself with what no honest peer sends, to measure its memory and time.
//!
//! `cargo run --release -p comet-engine --example flood -- HOST:PORT KIND CONNECTIONS SECONDS`, where the kind is one of
//! * `noise`: random bytes instead of a handshake; `idle`: connections on which nothing is ever sent;
//! * `frames`: random bytes after the exchange of keys; `packets`: sealed frames with random content;
//! * `messages`: random messages on every channel; `endless`: messages that never end, on the channels with the largest;
//! * `deaf`: asks for blocks and never reads; `requests`: asks for blocks, addresses, snapshots and reads;
//! * `votes`, `parts`: those of the node itself, changed; `steps`: small well-formed consensus messages;
//! * `txs`: random transactions of up to 30,000 bytes; `evidence`: random evidence.
//!
//! Every connection that is closed is opened again at once under a new identity. At the end it prints how many
//! connections were made, refused and closed by the node, and how many bytes were taken by it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use comet_net::node_id;
use comet_net::packet::put_piece;
use comet_net::secret::handshake::{Secured, secure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use wire_cometbft::blocksync::{BlockRequest, BlocksyncMessage, BlocksyncMessageSum};
use wire_cometbft::codec::Message;
use wire_cometbft::consensus::{ConsensusMessage, ConsensusMessageSum, HasVote};
use wire_cometbft::mempool::{MempoolMessage, MempoolMessageSum, Txs};
use wire_cometbft::p2p::{EphemeralKey, NodeInfo, Packet, PacketSum, PexMessage, PexMessageSum, PexRequest};
use wire_cometbft::statesync::{SnapshotsRequest, StatesyncMessage, StatesyncMessageSum};
use wire_cometbft::vote::SignedMsgType;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Channels: peer exchange, round steps, parts and proposals, votes, claims, transactions, evidence, blocks, snapshots,
/// chunks.
const CHANNELS: [u8; 10] = [0x00, 0x20, 0x21, 0x22, 0x23, 0x30, 0x38, 0x40, 0x60, 0x61];
/// Bytes of a piece of a message.
const PIECE: usize = 1024;
/// Messages of the node that may wait to be changed and sent back.
const TEMPLATES: usize = 64;

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
    bytes: AtomicU64,
}

/// Numbers that need not be good, from a seed that is.
struct Random(u64);

impl Random {
    fn new() -> Fallible<Self> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
        Ok(Self(u64::from_le_bytes(seed) | 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

fn pieces(channel: u8, message: &[u8], end: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 50 + 32);
    let count = message.len().div_ceil(PIECE).max(1);
    for at in 0..count {
        let piece = &message[at * PIECE..message.len().min((at + 1) * PIECE)];
        put_piece(channel, end && at + 1 == count, piece, &mut out);
    }
    out
}

/// What one connection sends next; `None`: nothing yet.
fn next(kind: &str, random: &mut Random, templates: &mut mpsc::Receiver<(u8, Vec<u8>)>) -> Option<Vec<u8>> {
    Some(match kind {
        "packets" => random.bytes(4096),
        "messages" => {
            let channel = CHANNELS[random.below(10) as usize];
            let len = random.below(20_000) as usize;
            pieces(channel, &random.bytes(len), true)
        }
        // The largest messages are blocks, then chunks.
        "endless" => pieces([0x40, 0x61][random.below(2) as usize], &random.bytes(64 << 10), false),
        "deaf" => {
            let sum = BlocksyncMessageSum::BlockRequest(BlockRequest { height: 1 + random.below(1000) as i64 });
            pieces(0x40, &BlocksyncMessage::from(sum).encode_to_vec(), true)
        }
        "requests" => match random.below(20) {
            0 => pieces(0x00, &PexMessage::from(PexMessageSum::Request(PexRequest {})).encode_to_vec(), true),
            1 => {
                let sum = StatesyncMessageSum::SnapshotsRequest(SnapshotsRequest {});
                pieces(0x60, &StatesyncMessage::from(sum).encode_to_vec(), true)
            }
            _ => {
                let sum = BlocksyncMessageSum::BlockRequest(BlockRequest { height: 1 + random.below(1000) as i64 });
                pieces(0x40, &BlocksyncMessage::from(sum).encode_to_vec(), true)
            }
        },
        "votes" | "parts" | "steps" => loop {
            let (channel, message) = templates.try_recv().ok()?;
            if let Some(out) = changed(kind, channel, &message, random) {
                break out;
            }
        },
        "txs" => {
            let len = 1 + random.below(30_000) as usize;
            let txs = Txs { txs: vec![random.bytes(len)] };
            pieces(0x30, &MempoolMessage::from(MempoolMessageSum::Txs(txs)).encode_to_vec(), true)
        }
        "evidence" => {
            // A list with one piece of evidence of a kind that there is.
            let len = random.below(2000) as usize;
            let inner = random.bytes(len);
            let mut message = vec![0x0a];
            let mut one = vec![[0x0a, 0x12][random.below(2) as usize]];
            wire_cometbft::codec::put_varint(inner.len() as u64, &mut one);
            one.extend_from_slice(&inner);
            wire_cometbft::codec::put_varint(one.len() as u64, &mut message);
            message.extend_from_slice(&one);
            pieces(0x38, &message, true)
        }
        _ => random.bytes(1024),
    })
}

/// Twenty variants of a message of the node, none of them true.
fn changed(kind: &str, channel: u8, message: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let decoded = ConsensusMessage::decode(message).ok()?;
    let mut out = Vec::new();
    for _ in 0..20 {
        let sum = match (kind, decoded.sum.clone()?) {
            ("votes", ConsensusMessageSum::Vote(mut message)) => {
                let vote = message.vote.as_mut()?;
                let at = random.below(64) as usize;
                *vote.signature.get_mut(at)? ^= 1 + random.below(255) as u8;
                ConsensusMessageSum::Vote(message)
            }
            ("parts", ConsensusMessageSum::BlockPart(mut message)) => {
                let at = random.below(message.part.bytes.len() as u64) as usize;
                *message.part.bytes.get_mut(at)? ^= 1;
                ConsensusMessageSum::BlockPart(message)
            }
            ("steps", ConsensusMessageSum::NewRoundStep(step)) => {
                let (height, index) = (step.height + random.below(3) as i64 - 1, random.below(10_000) as i32);
                let kind = SignedMsgType::PREVOTE;
                ConsensusMessageSum::HasVote(HasVote { height, round: random.below(5) as i32, kind, index })
            }
            _ => return None,
        };
        out.extend_from_slice(&pieces(channel, &ConsensusMessage::from(sum).encode_to_vec(), true));
    }
    Some(out)
}

/// Handshake and node info, which is the node's own under another name.
async fn join(address: SocketAddr) -> Fallible<Secured<OwnedReadHalf, OwnedWriteHalf>> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    let key = SecretKey::from_seed(&seed);
    let (read, write) = TcpStream::connect(address).await?.into_split();
    let mut secured = secure(read, write, &key).await?;
    let mut info = NodeInfo::decode(&secured.reader.read_delimited(10_240).await?)?;
    info.default_node_id = node_id(&key.public()).0.to_string();
    info.listen_addr = "tcp://127.0.0.1:1".into();
    secured.writer.write(&info.encode_delimited()).await?;
    Ok(secured)
}

/// Reads whatever comes; gives on the consensus messages, and echoes round steps so that the node tells its votes.
async fn read(
    mut reader: comet_net::secret::stream::SecretReader<OwnedReadHalf>,
    templates: mpsc::Sender<(u8, Vec<u8>)>,
    echo: mpsc::Sender<Vec<u8>>,
) -> Fallible<()> {
    let mut partial: Vec<Vec<u8>> = vec![Vec::new(); 256];
    loop {
        let packet = reader.read_delimited(2048).await?;
        let packet = Packet::decode(&packet)?;
        let Some(PacketSum::Msg(piece)) = packet.sum else { continue };
        let channel = u8::try_from(piece.channel_id)?;
        let held = &mut partial[usize::from(channel)];
        held.extend_from_slice(&piece.data);
        if !piece.eof {
            continue;
        }
        let message = std::mem::take(held);
        if channel == 0x20 && message.first() == Some(&0x0a) {
            let _full = echo.try_send(pieces(channel, &message, true));
        }
        if (0x20..=0x22).contains(&channel) {
            let _full = templates.try_send((channel, message));
        }
    }
}

/// One connection, until the node closes it.
async fn connection(address: SocketAddr, kind: &str, counts: &Counts) -> Fallible<()> {
    let mut random = Random::new()?;
    if ["noise", "idle", "frames"].contains(&kind) {
        let mut stream = TcpStream::connect(address).await?;
        counts.made.fetch_add(1, Ordering::Relaxed);
        if kind == "frames" {
            stream.write_all(&EphemeralKey { key: random.bytes(32) }.encode_delimited()).await?;
        }
        let mut sink = [0; 4096];
        if kind == "idle" {
            while stream.read(&mut sink).await? > 0 {}
            return Err("closed".into());
        }
        loop {
            let noise = random.bytes(4096);
            stream.write_all(&noise).await?;
            counts.bytes.fetch_add(noise.len() as u64, Ordering::Relaxed);
        }
    }
    let Secured { reader, mut writer, .. } = join(address).await.inspect_err(|_| {
        counts.refused.fetch_add(1, Ordering::Relaxed);
    })?;
    counts.made.fetch_add(1, Ordering::Relaxed);
    let (give, mut templates) = mpsc::channel(TEMPLATES);
    let (echo, mut echoed) = mpsc::channel(TEMPLATES);
    let reading = async {
        if kind == "deaf" {
            let _kept = (reader, give, echo);
            std::future::pending().await
        } else {
            read(reader, give, echo).await
        }
    };
    let writing = async {
        loop {
            while let Ok(step) = echoed.try_recv() {
                writer.write(&step).await?;
            }
            let Some(payload) = next(kind, &mut random, &mut templates) else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            writer.write(&payload).await?;
            counts.bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, kind, connections, seconds] = arguments.as_slice() else {
        return Err("HOST:PORT KIND CONNECTIONS SECONDS".into());
    };
    let address: SocketAddr = address.parse()?;
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let counts = Arc::new(Counts::default());
    let tasks: Vec<_> = (0..connections.parse::<usize>()?)
        .map(|_| {
            let (counts, kind) = (Arc::clone(&counts), kind.clone());
            tokio::spawn(async move {
                while let Ok(ended) = timeout_at(end, connection(address, &kind, &counts)).await {
                    if ended.is_err() {
                        counts.closed.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{kind}: connections made {}, refused {}, closed or refused {}, bytes sent {}",
        get(&counts.made),
        get(&counts.refused),
        get(&counts.closed),
        get(&counts.bytes)
    );
    Ok(())
}
