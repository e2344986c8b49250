//! What the components of a runtime are told: consensus blocks, their key manager, their own blocks. Source:
//! `go/runtime/registry/notifier_{light,policy}.go`.

use std::sync::Arc;

use apps_committees::registry;
use apps_keymanager::secrets;
use base_codec::cbor;
use base_prims::Epoch;
use node_workers::Chain;
use node_workers::runtime::RuntimeView;
use rt_host::notify::Input;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::keymanager::Status;
use wire_consensus::registry::{Runtime, VersionInfo};
use wire_consensus::roothash::AnnotatedBlock;
use wire_consensus::tee::{QuotePolicy, TeeHardware};

use crate::provision::constraints;

/// What was told last.
#[derive(Default)]
struct Told {
    status: Option<Status>,
    deployment: Option<VersionInfo>,
    /// Descriptor and epoch at which age and policy were looked at.
    descriptor: Option<Arc<Runtime>>,
    epoch: Option<Epoch>,
    age: Option<u64>,
}

/// Collects until stopped.
pub(crate) async fn run(
    chain: Arc<dyn Chain>,
    view: watch::Receiver<RuntimeView>,
    inputs: mpsc::Sender<Input>,
    mut blocks: mpsc::Receiver<AnnotatedBlock>,
    stop: CancellationToken,
) {
    let mut heights = chain.heights();
    let mut told = Told::default();
    let work = async {
        let mut height = *heights.borrow_and_update();
        loop {
            if height > 0 {
                let (chain, seen) = (Arc::clone(&chain), view.borrow().clone());
                let read = tokio::task::spawn_blocking(move || {
                    let out = told.read(&*chain, &seen);
                    (told, out)
                });
                let news;
                (told, news) = match read.await {
                    Ok(read) => read,
                    Err(e) => {
                        tracing::error!(module = "runtime/notifier", err = %e, "reading the chain failed");
                        return;
                    }
                };
                let block = Input::ConsensusBlock(height.unsigned_abs(), Instant::now());
                for input in std::iter::once(block).chain(news) {
                    if inputs.send(input).await.is_err() {
                        return;
                    }
                }
            }
            loop {
                tokio::select! {
                    changed = heights.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        height = *heights.borrow_and_update();
                        break;
                    }
                    Some(block) = blocks.recv() => {
                        if inputs.send(Input::RuntimeBlock(Box::new(block))).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

impl Told {
    /// What is new in the newest state.
    fn read(&mut self, chain: &dyn Chain, view: &RuntimeView) -> Vec<Input> {
        let mut out = Vec::new();
        let Some(descriptor) = &view.descriptor else {
            return out;
        };
        let news = self.descriptor.as_ref() != Some(descriptor) || self.epoch != Some(view.epoch);
        let outcome = (|| -> Result<(), String> {
            let state = chain.state(0).map_err(|e| e.to_string())?;
            if news && descriptor.tee_hardware == TeeHardware::INTEL_SGX {
                let age = attestation_age(&*state, descriptor, view.epoch)?;
                if age != self.age {
                    self.age = age;
                    out.extend(age.map(|age| Input::MaxAttestationAge(age, rt_host::backoff::random())));
                }
            }
            let Some(key_manager) = descriptor.key_manager.filter(|_| descriptor.is_compute()) else {
                return Ok(());
            };
            let status = secrets::state::status(&*state, &key_manager).map_err(|e| e.to_string())?;
            if let Some(status) = status
                && self.status.as_ref() != Some(&status)
            {
                self.status = Some(status.clone());
                out.push(Input::KeyManagerStatus(Box::new(status)));
            }
            if news {
                self.read_policy(&*state, &key_manager, view.epoch, &mut out)?;
            }
            Ok(())
        })();
        match outcome {
            Ok(()) => (self.descriptor, self.epoch) = (Some(descriptor.clone()), Some(view.epoch)),
            Err(error) => tracing::warn!(module = "runtime/notifier", runtime_id = %descriptor.id, err = error,
                "failed to read what the runtime is to be told"),
        }
        out
    }

    /// The quote policy of the key manager's deployment, when that is another one.
    fn read_policy(
        &mut self,
        state: &dyn mkvs_tree::KvRead,
        key_manager: &base_prims::Namespace,
        epoch: Epoch,
        out: &mut Vec<Input>,
    ) -> Result<(), String> {
        let found = registry::state::any_runtime(state, key_manager).map_err(|e| e.to_string())?;
        let Some(descriptor) = found.filter(|found| found.tee_hardware == TeeHardware::INTEL_SGX) else {
            return Ok(());
        };
        let deployment = descriptor.active_deployment(epoch);
        let Some(deployment) = deployment.filter(|new| self.deployment.as_ref() != Some(*new)) else {
            return Ok(());
        };
        self.deployment = Some(deployment.clone());
        let policy = constraints(deployment.tee.as_ref().map(|tee| tee.as_slice()))?.policy;
        if let Some(policy) = policy {
            // The same form under another name.
            let policy: QuotePolicy = cbor::from_slice(&cbor::to_vec(&policy)).map_err(|e| e.to_string())?;
            out.push(Input::KeyManagerQuotePolicy(Box::new(policy)));
        }
        Ok(())
    }
}

/// The greatest age of attestations of the active deployment, in blocks; `None` without a deployment.
fn attestation_age(state: &dyn mkvs_tree::KvRead, descriptor: &Runtime, epoch: Epoch) -> Result<Option<u64>, String> {
    let Some(deployment) = descriptor.active_deployment(epoch) else {
        return Ok(None);
    };
    let constraints = constraints(deployment.tee.as_ref().map(|tee| tee.as_slice()))?;
    if constraints.max_attestation_age != 0 {
        return Ok(Some(constraints.max_attestation_age));
    }
    let parameters = registry::state::parameters(state).map_err(|e| e.to_string())?;
    Ok(Some(parameters.tee_features.map_or(0, |features| features.sgx.default_max_attestation_age)))
}
