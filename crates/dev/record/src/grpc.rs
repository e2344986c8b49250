//! The gRPC client: unary calls whose messages are CBOR.

use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

use crate::{Error, Node};

/// Largest message in bytes: the reference's own limit (`go/common/grpc`).
const MAX_MESSAGE_BYTES: usize = 100 << 20;
/// A call that takes longer fails.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Messages as they are: who calls encodes and decodes them.
#[derive(Clone, Copy, Default)]
struct Opaque;

impl Encoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut out = vec![0; src.remaining()];
        src.copy_to_slice(&mut out);
        Ok(Some(out))
    }
}

impl Codec for Opaque {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

/// A node reached over gRPC without encryption: its internal socket, or a loopback address.
#[derive(Debug)]
pub struct GrpcNode {
    runtime: tokio::runtime::Runtime,
    client: Grpc<Channel>,
}

impl GrpcNode {
    /// Connects to `unix:PATH` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// If the address is unusable or nobody listens there.
    pub fn connect(address: &str) -> Result<Self, Error> {
        let connect = |reason: String| Error::Connect { address: address.to_owned(), reason };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| connect(e.to_string()))?;
        let endpoint =
            Endpoint::from_shared(address.to_owned()).map_err(|e| connect(chain_of(&e)))?.timeout(CALL_TIMEOUT);
        let channel = runtime.block_on(endpoint.connect()).map_err(|e| connect(chain_of(&e)))?;
        let client = Grpc::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { runtime, client })
    }
}

/// An error with its causes on one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        next = cause.source();
    }
    out
}

impl Node for GrpcNode {
    fn call(&mut self, method: &'static str, request: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |reason: String| Error::Call { method, reason };
        let path =
            PathAndQuery::try_from(format!("/oasis-core.Consensus/{method}")).map_err(|e| failed(e.to_string()))?;
        let client = &mut self.client;
        self.runtime.block_on(async {
            client.ready().await.map_err(|e| failed(chain_of(&e)))?;
            let answer = client.unary(Request::new(request.to_vec()), path, Opaque).await;
            answer.map(tonic::Response::into_inner).map_err(|s| failed(format!("{:?}: {}", s.code(), s.message())))
        })
    }
}
