//! The hosted runtime as it comes and goes.

use std::sync::Arc;

use rt_executor::round::{Input, RuntimeInfo};
use rt_host::{ComponentState, HostEvent};

use super::{Done, Task};
use crate::effects;

impl Task {
    pub(super) fn host_event(&mut self, event: Option<HostEvent>) {
        match event {
            Some(HostEvent::Started { .. }) => self.runtime_started(true),
            Some(HostEvent::Updated { .. }) => self.runtime_started(false),
            Some(HostEvent::FailedToStart { .. } | HostEvent::Stopped) => self.runtime_stopped(),
            Some(HostEvent::ConfigUpdated) => {}
            // Some were missed.
            None => match self.setup.host.as_ref().map(|host| host.status().state) {
                Some(ComponentState::Running) => self.runtime_started(true),
                _ => self.runtime_stopped(),
            },
        }
        self.tell();
    }

    /// The runtime runs; `anew` if it did not before.
    pub(super) fn runtime_started(&mut self, anew: bool) {
        let Some(host) = self.setup.host.clone() else { return };
        if anew {
            self.runtime_stopped();
        }
        let control = host.info().and_then(|info| info.features).and_then(|features| features.schedule_control);
        if self.machine.is_none() {
            self.runtime.ready = true;
            return;
        }
        let Some(control) = control else {
            tracing::error!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                "runtime does not support schedule control");
            return;
        };
        self.runtime.ready = true;
        let initial_batch_size = control.initial_batch_size;
        self.inputs.push_back(Input::Runtime(Some(RuntimeInfo { initial_batch_size })));
        if anew {
            tracing::info!(module = "worker/executor/committee", runtime_id = %self.setup.runtime,
                "asking the runtime to perform light client sync");
            let (attempt, chain) = (self.runtime.attempt, Arc::clone(&self.setup.chain));
            let syncing = async move {
                effects::trust_sync(host, || chain.latest_height()).await;
                Done::TrustSynced(attempt)
            };
            self.runtime.trust_sync = Some(self.work.spawn(syncing));
        }
    }

    pub(super) fn runtime_stopped(&mut self) {
        self.runtime.ready = false;
        self.runtime.trust_synced = false;
        self.runtime.attempt += 1;
        if let Some(handle) = self.runtime.trust_sync.take() {
            handle.abort();
        }
        self.inputs.push_back(Input::Runtime(None));
    }

    pub(super) fn abort_runtime(&mut self) {
        let Some(host) = self.setup.host.clone() else { return };
        let aborting = self.aborts.begin();
        self.work.spawn(async move {
            effects::abort(host, aborting).await;
            Done::Nothing
        });
    }
}
