//! What nodes send each other to call enclaves. Source: `go/worker/keymanager/p2p/protocol.go`.

use std::time::Duration;

use base_codec::{Bytes, Codec};
use wire_runtime::enclave_rpc::Kind;

/// The method that calls an enclave.
pub(crate) const METHOD_CALL_ENCLAVE: &str = "CallEnclave";
/// How long a peer may take to answer it.
pub(crate) const CALL_ENCLAVE_TIME: Duration = Duration::from_secs(3);
/// Largest answer in bytes; a runtime takes no larger one.
pub(crate) const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A call. CBOR: `{data, kind?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub(crate) struct CallEnclaveRequest {
    /// The frame or the plain request.
    pub(crate) data: Option<Bytes>,
    /// How it is encoded.
    #[codec(omitempty)]
    pub(crate) kind: Kind,
}

/// Its answer. CBOR: `{data}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub(crate) struct CallEnclaveResponse {
    /// The frame or the plain answer.
    pub(crate) data: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_codec::cbor;

    #[test]
    fn wire_forms() {
        let request = CallEnclaveRequest { data: Some(vec![1, 2].into()), kind: Kind::NOISE_SESSION };
        assert_eq!(cbor::to_vec(&request), b"\xa1\x64data\x42\x01\x02");
        let request = CallEnclaveRequest { data: Some(vec![1].into()), kind: Kind::INSECURE_QUERY };
        assert_eq!(cbor::to_vec(&request), b"\xa2\x64data\x41\x01\x64kind\x01");
        let answer = CallEnclaveResponse { data: None };
        assert_eq!(cbor::to_vec(&answer), b"\xa1\x64data\xf6");
    }
}
