//! Records of the consensus write-ahead log.
//!
//! Reference: `cometbft:consensus/wal.go`, `proto/tendermint/consensus/wal.proto`. A record is the CRC-32C of the data
//! and the data's length, each four bytes big endian, then the data: an encoded [`TimedWalMessage`].

use crate::codec::{DecodeError, Message, messages, oneofs};
use crate::consensus::{ConsensusMessage, MessageError};
use crate::time::{Duration, Time};

/// Most bytes of a record's data.
pub const MAX_WAL_DATA_BYTES: usize = 1_048_576 + 24;
/// Bytes before a record's data.
pub const WAL_HEADER_BYTES: usize = 8;

messages! {
    /// The state machine entered a step.
    pub struct RoundStateEvent {
        /// Height.
        1 => height: i64,
        /// Round.
        2 => round: i32,
        /// Name of the step, e.g. `RoundStepPropose`.
        3 => step: String,
    }

    /// A message that the state machine took in.
    pub struct MsgInfo {
        /// The message.
        1 => msg: ConsensusMessage,
        /// Who sent it; empty: this node.
        2 => peer_id: String,
    }

    /// A timer that expired.
    pub struct TimeoutInfo {
        /// How long it ran.
        1 => duration: Duration,
        /// Height.
        2 => height: i64,
        /// Round.
        3 => round: i32,
        /// Step.
        4 => step: u32,
    }

    /// The height is done.
    pub struct EndHeight {
        /// Height.
        1 => height: i64,
    }

    /// What a record holds.
    pub struct TimedWalMessage {
        /// When it was written.
        1 => time: Time,
        /// What happened.
        2 => msg: Option<WalMessage>,
    }
}

oneofs! {
    /// What happened.
    pub struct WalMessage = enum WalMessageSum {
        /// A step was entered.
        1 => RoundState(RoundStateEvent),
        /// A message was taken in.
        2 => MsgInfo(MsgInfo),
        /// A timer expired.
        3 => Timeout(TimeoutInfo),
        /// A height is done.
        4 => EndHeight(EndHeight),
    }
}

/// Why a record is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The log ends within a record.
    #[error("log ends within the record at byte {offset}")]
    Truncated {
        /// Where the record starts.
        offset: usize,
    },
    /// The length is above the limit.
    #[error("record of {len} bytes at byte {offset}")]
    TooLong {
        /// Where the record starts.
        offset: usize,
        /// Length stated.
        len: usize,
    },
    /// The checksum is not that of the data.
    #[error("checksum mismatch in the record at byte {offset}")]
    Checksum {
        /// Where the record starts.
        offset: usize,
    },
    /// The data does not decode.
    #[error("record at byte {offset}: {source}")]
    Decode {
        /// Where the record starts.
        offset: usize,
        /// What is wrong.
        source: DecodeError,
    },
    /// The message within is empty or breaks a rule.
    #[error("record at byte {offset}: {source}")]
    Message {
        /// Where the record starts.
        offset: usize,
        /// What is wrong.
        source: MessageError,
    },
}

/// CRC-32C (Castagnoli) of some bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc32c_table();
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
}

const fn crc32c_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// A whole record; `None` if the message is longer than a record may be.
pub fn encode_record(message: &TimedWalMessage) -> Option<Vec<u8>> {
    let data = message.encode_to_vec();
    if data.len() > MAX_WAL_DATA_BYTES {
        return None;
    }
    let mut record = Vec::with_capacity(WAL_HEADER_BYTES + data.len());
    record.extend_from_slice(&crc32c(&data).to_be_bytes());
    record.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
    record.extend_from_slice(&data);
    Some(record)
}

/// Reads records one after another; stops for good at the first bad one.
#[derive(Debug)]
pub struct WalReader<'a> {
    log: &'a [u8],
    offset: usize,
    failed: bool,
}

impl<'a> WalReader<'a> {
    /// Reader from the start of a log.
    pub fn new(log: &'a [u8]) -> Self {
        Self { log, offset: 0, failed: false }
    }

    /// Where the next record starts, or the bad one.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn read(&mut self) -> Result<TimedWalMessage, WalError> {
        let offset = self.offset;
        let rest = self.log.get(offset..).unwrap_or_default();
        let (header, body) = rest.split_first_chunk::<WAL_HEADER_BYTES>().ok_or(WalError::Truncated { offset })?;
        let crc = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if len > MAX_WAL_DATA_BYTES {
            return Err(WalError::TooLong { offset, len });
        }
        let data = body.get(..len).ok_or(WalError::Truncated { offset })?;
        if crc32c(data) != crc {
            return Err(WalError::Checksum { offset });
        }
        let message = TimedWalMessage::decode(data).map_err(|source| WalError::Decode { offset, source })?;
        match message.msg.as_ref().and_then(|msg| msg.sum.as_ref()) {
            None => {
                return Err(WalError::Message { offset, source: MessageError::Empty });
            }
            Some(WalMessageSum::MsgInfo(info)) => {
                info.msg.validate_basic().map_err(|source| WalError::Message { offset, source })?;
            }
            Some(_) => {}
        }
        self.offset = offset + WAL_HEADER_BYTES + len;
        Ok(message)
    }
}

impl Iterator for WalReader<'_> {
    type Item = Result<TimedWalMessage, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.offset >= self.log.len() {
            return None;
        }
        let result = self.read();
        self.failed = result.is_err();
        Some(result)
    }
}
