//! Answers to requests for diffs of storage: wrong ones, or none.

use base_codec::{Bytes, Raw, cbor};
use mkvs_tree::LogEntry;
use p2p_net::api::{BoxFuture, PeerId};
use p2p_net::rpc::{Handler, RpcError};
use rt_storage::messages::{GET_CHECKPOINTS, GET_DIFF, GetCheckpointsResponse, GetDiffRequest, GetDiffResponse};

use crate::{Behaviour, MODULE};

/// What every wrong diff says of the first key.
const CORRUPTED: &[u8] = b"corrupted";

/// Serves the old protocol of storage nodes. The node keeps no state: an honest answer is that there is none.
pub(crate) struct Diffs {
    pub(crate) fail: bool,
    pub(crate) corrupt: bool,
}

impl Diffs {
    pub(crate) fn new(behaviour: &Behaviour) -> Self {
        Self { fail: behaviour.fail_read_requests, corrupt: behaviour.corrupt_get_diff }
    }

    fn answer(&self, method: &str, body: &Raw) -> Result<Raw, RpcError> {
        if self.fail {
            return Err(RpcError::unknown("byzantine error"));
        }
        match method {
            GET_DIFF => {
                let request: GetDiffRequest = cbor::from_slice(&body.0).map_err(|_| RpcError::bad_request())?;
                if !self.corrupt {
                    return Err(RpcError::unknown("mkvs: root not found"));
                }
                tracing::debug!(module = MODULE, end_root = %request.end_root, "answering with a corrupted diff");
                let entry = LogEntry { key: Bytes(CORRUPTED.to_vec()), value: Some(Bytes(CORRUPTED.to_vec())) };
                Ok(Raw(cbor::to_vec(&GetDiffResponse { write_log: vec![entry] })))
            }
            GET_CHECKPOINTS => Ok(Raw(cbor::to_vec(&GetCheckpointsResponse::default()))),
            _ => Err(RpcError::unsupported_method()),
        }
    }
}

impl Handler for Diffs {
    fn handle<'a>(&'a self, _: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move { self.answer(method, body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_only_if_told_to() {
        let body = Raw(cbor::to_vec(&GetDiffRequest::default()));
        let answer = |fail, corrupt, method| Diffs { fail, corrupt }.answer(method, &body);
        assert!(answer(false, false, GET_DIFF).is_err());
        assert!(answer(true, true, GET_DIFF).is_err());
        assert_eq!(answer(false, true, "GetWhatever"), Err(RpcError::unsupported_method()));
        let lie: GetDiffResponse = cbor::from_slice(&answer(false, true, GET_DIFF).unwrap().0).unwrap();
        assert_eq!(lie.write_log.len(), 1);
        let bad = Diffs { fail: false, corrupt: true }.answer(GET_DIFF, &Raw(vec![0x01]));
        assert_eq!(bad, Err(RpcError::bad_request()));
    }
}
