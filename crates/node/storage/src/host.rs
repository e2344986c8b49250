//! What hosted components ask of a runtime's state. Without state here, peers that serve everybody are asked.

use std::sync::Arc;

use base_codec::Bytes;
use mkvs_tree::sync::ProofResponse;
use p2p_net::ids;
use p2p_net::rpc::{CallError, CallOptions, Client, Feedback};
use rt_history::artifacts;
use rt_host::api::BoxFuture;
use rt_host::notify::TagLookup;
use rt_host::services::{RuntimeState, Served, SyncRequest};
use rt_storage::messages::{GET, GET_PREFIXES, ITERATE};
use rt_storage::{ServeError, roots_of};
use wire_consensus::roothash::AnnotatedBlock;
use wire_runtime::{Error, error};

use crate::error::StoreError;
use crate::store::{RuntimeStore, blocking};

fn plain(text: impl Into<String>) -> Error {
    Error::new(error::UNKNOWN, text)
}

impl RuntimeStore {
    /// Asks peers for a proof; whoever asked checks it.
    async fn ask_peers(&self, request: &SyncRequest) -> Result<ProofResponse, CallError> {
        let Some(p2p) = &self.setup.p2p else { return Err(CallError::NoPeers) };
        let protocol = ids::STORAGE_PUB.of_runtime(&self.setup.chain_context, &self.setup.runtime);
        let client = Client::new(Arc::clone(p2p), protocol);
        let options = CallOptions::default();
        let any = |_: &ProofResponse, _: &Feedback| Ok(());
        let (answer, feedback) = match request {
            SyncRequest::Get(request) => client.call_one(None, GET, request, options, any).await?,
            SyncRequest::GetPrefixes(request) => client.call_one(None, GET_PREFIXES, request, options, any).await?,
            SyncRequest::Iterate(request) => client.call_one(None, ITERATE, request, options, any).await?,
        };
        feedback.success();
        Ok(answer)
    }
}

impl RuntimeState for RuntimeStore {
    fn state(&self, request: SyncRequest) -> BoxFuture<'_, Served<ProofResponse>> {
        Box::pin(async move {
            let Some(state) = &self.state else {
                return self.ask_peers(&request).await.map_err(|e| plain(e.to_string()));
            };
            let server = state.server.clone();
            let proved = blocking(move || match request {
                SyncRequest::Get(request) => server.get(&request),
                SyncRequest::GetPrefixes(request) => server.get_prefixes(&request),
                SyncRequest::Iterate(request) => server.iterate(&request),
            });
            proved.await.map_err(|e| plain(e.to_string()))?.map_err(|e: ServeError| plain(e.message))
        })
    }
}

impl TagLookup for RuntimeStore {
    fn present(&self, block: &AnnotatedBlock, tags: &[Bytes]) -> BoxFuture<'_, Result<Vec<Bytes>, String>> {
        let (header, tags) = (block.block.as_ref().map(|b| b.header.clone()), tags.to_vec());
        Box::pin(async move {
            let Some(header) = header else { return Ok(Vec::new()) };
            let state = self.state.as_ref().ok_or_else(|| StoreError::Stateless.to_string())?;
            let storage = Arc::clone(&state.storage);
            let looked = blocking(move || {
                let [io, _] = roots_of(&header);
                let tree = storage.db().read(&io).map_err(|e| e.to_string())?;
                let mut present = Vec::new();
                for tag in tags {
                    if !artifacts::tags_of(&tree, &tag).map_err(|e| e.to_string())?.is_empty() {
                        present.push(tag);
                    }
                }
                Ok(present)
            });
            looked.await.map_err(|e| e.to_string())?
        })
    }
}
