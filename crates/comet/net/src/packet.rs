//! Packets of the multiplexed connection: their bytes, and messages put together from them.
//!
//! Reference: `cometbft:p2p/conn/connection.go`, `proto/tendermint/p2p/conn.proto`.

use bytes::Bytes;
use wire_cometbft::codec::{DecodeError, Message, put_varint};
use wire_cometbft::p2p::{Packet, PacketMsg, PacketPing, PacketPong, PacketSum};

use crate::reactor::ChannelDescriptor;

/// Most bytes of a message in one packet that we send.
pub const MAX_PAYLOAD: usize = 1024;
/// Largest packet taken, without the length in front: that of [`MAX_PAYLOAD`] bytes that end a message.
pub const MAX_PACKET: usize = MAX_PAYLOAD + 10;

/// Why a packet ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Malformed bytes.
    #[error("malformed packet: {0}")]
    Decode(#[from] DecodeError),
    /// Neither keep-alive nor message.
    #[error("packet of unknown kind")]
    UnknownKind,
    /// We have no such channel.
    #[error("unknown channel {0}")]
    UnknownChannel(i32),
    /// A message is longer than its channel allows.
    #[error("message of more than {max} bytes on channel {channel:#04x}")]
    MessageTooLong {
        /// Channel.
        channel: u8,
        /// Largest message allowed.
        max: usize,
    },
}

/// What a packet brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A keep-alive that wants a reply.
    Ping,
    /// The reply to ours.
    Pong,
    /// A piece of a message.
    Piece,
    /// A complete message of the channel.
    Message(u8, Bytes),
}

/// Appends a keep-alive with its length in front.
pub fn put_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&Packet::from(PacketSum::Ping(PacketPing {})).encode_delimited());
}

/// Appends the reply to a keep-alive with its length in front.
pub fn put_pong(out: &mut Vec<u8>) {
    out.extend_from_slice(&Packet::from(PacketSum::Pong(PacketPong {})).encode_delimited());
}

/// Appends a piece of a message with its length in front; gives the number of bytes appended.
pub fn put_piece(channel: u8, last: bool, data: &[u8], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let mut head = Vec::with_capacity(8);
    if channel != 0 {
        head.push(0x08);
        put_varint(u64::from(channel), &mut head);
    }
    if last {
        head.extend_from_slice(&[0x10, 1]);
    }
    if !data.is_empty() {
        head.push(0x1a);
        put_varint(data.len() as u64, &mut head);
    }
    let inner = head.len() + data.len();
    let mut wrapper = Vec::with_capacity(8);
    wrapper.push(0x1a);
    put_varint(inner as u64, &mut wrapper);
    put_varint((wrapper.len() + inner) as u64, out);
    out.extend_from_slice(&wrapper);
    out.extend_from_slice(&head);
    out.extend_from_slice(data);
    out.len() - start
}

/// Puts messages together from the pieces of all channels.
#[derive(Debug)]
pub struct Assembler {
    channels: Vec<(ChannelDescriptor, Vec<u8>)>,
    held: usize,
}

impl Assembler {
    /// Assembler for the channels.
    pub fn new(channels: &[ChannelDescriptor]) -> Self {
        Self { channels: channels.iter().map(|channel| (*channel, Vec::new())).collect(), held: 0 }
    }

    /// Bytes of incomplete messages.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes a packet without its length.
    pub fn take(&mut self, packet: &[u8]) -> Result<Incoming, PacketError> {
        let packet = match Packet::decode(packet)?.sum {
            Some(PacketSum::Ping(_)) => return Ok(Incoming::Ping),
            Some(PacketSum::Pong(_)) => return Ok(Incoming::Pong),
            Some(PacketSum::Msg(piece)) => piece,
            None => return Err(PacketError::UnknownKind),
        };
        self.piece(packet)
    }

    fn piece(&mut self, piece: PacketMsg) -> Result<Incoming, PacketError> {
        let unknown = PacketError::UnknownChannel(piece.channel_id);
        let Ok(id) = u8::try_from(piece.channel_id) else { return Err(unknown) };
        let Some((channel, partial)) = self.channels.iter_mut().find(|(c, _)| c.id == id) else { return Err(unknown) };
        let len = partial.len().saturating_add(piece.data.len());
        if len > channel.max_message {
            return Err(PacketError::MessageTooLong { channel: id, max: channel.max_message });
        }
        if !piece.eof {
            self.held += piece.data.len();
            partial.extend_from_slice(&piece.data);
            return Ok(Incoming::Piece);
        }
        if partial.is_empty() {
            return Ok(Incoming::Message(id, Bytes::from(piece.data)));
        }
        self.held = self.held.saturating_sub(partial.len());
        let mut message = std::mem::take(partial);
        message.extend_from_slice(&piece.data);
        Ok(Incoming::Message(id, Bytes::from(message)))
    }
}

#[cfg(test)]
mod tests;
