//! Arguments and answers: CBOR items, or nothing, which is a message without bytes.

use base_codec::cbor;
use bytes::Bytes;
use tonic::Code;

use crate::error::RpcError;

/// A message that is one CBOR item. Unknown keys of maps are skipped on the way in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cbor<T>(
    /// The value.
    pub T,
);

/// What a method takes.
pub trait Argument: Sized {
    /// From the bytes of a message.
    fn from_message(bytes: &[u8]) -> Result<Self, RpcError>;
    /// To the bytes of a message.
    fn to_message(&self) -> Bytes;
}

/// What a method gives.
pub trait Reply: Sized {
    /// From the bytes of a message.
    fn from_message(bytes: &[u8]) -> Result<Self, RpcError>;
    /// To the bytes of a message.
    fn to_message(&self) -> Bytes;
}

fn decode<T: cbor::Decode>(bytes: &[u8]) -> Result<T, RpcError> {
    let value = cbor::from_slice_relaxed(bytes);
    value.map_err(|error| {
        RpcError::with(Code::Internal, format!("grpc: failed to unmarshal the received message: {error}"))
    })
}

impl<T: cbor::Encode + cbor::Decode> Argument for Cbor<T> {
    fn from_message(bytes: &[u8]) -> Result<Self, RpcError> {
        decode(bytes).map(Self)
    }

    fn to_message(&self) -> Bytes {
        cbor::to_vec(&self.0).into()
    }
}

impl<T: cbor::Encode + cbor::Decode> Reply for Cbor<T> {
    fn from_message(bytes: &[u8]) -> Result<Self, RpcError> {
        decode(bytes).map(Self)
    }

    fn to_message(&self) -> Bytes {
        cbor::to_vec(&self.0).into()
    }
}

impl Argument for () {
    fn from_message(_bytes: &[u8]) -> Result<Self, RpcError> {
        Ok(())
    }

    fn to_message(&self) -> Bytes {
        Bytes::new()
    }
}

impl Reply for () {
    fn from_message(_bytes: &[u8]) -> Result<Self, RpcError> {
        Ok(())
    }

    fn to_message(&self) -> Bytes {
        Bytes::new()
    }
}

/// Bytes as they are: for proxies, and for answers that were encoded elsewhere.
impl Reply for Bytes {
    fn from_message(bytes: &[u8]) -> Result<Self, RpcError> {
        Ok(Self::copy_from_slice(bytes))
    }

    fn to_message(&self) -> Bytes {
        self.clone()
    }
}

impl Argument for Bytes {
    fn from_message(bytes: &[u8]) -> Result<Self, RpcError> {
        Ok(Self::copy_from_slice(bytes))
    }

    fn to_message(&self) -> Bytes {
        self.clone()
    }
}
