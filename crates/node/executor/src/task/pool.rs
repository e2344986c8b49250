//! Transactions: where they come from, and what the pool wants done.

use std::sync::Arc;

use p2p_net::api::Validation;
use rt_executor::messages::TxMessage;
use rt_executor::round::Input;
use rt_executor::txpool::{self, Checked, Origin, Ticket, Tx};

use super::{Done, Task, Waiter};
use crate::client::ClientTx;
use crate::effects;
use crate::gossip::GossipTx;

impl Task {
    pub(super) fn ticket(&mut self, waiter: Waiter) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiters.insert(ticket, waiter);
        ticket
    }

    pub(super) fn client_tx(&mut self, tx: ClientTx) {
        if tx.reply.is_closed() {
            return;
        }
        let ticket = self.ticket(Waiter::Client(tx.reply));
        let taken = self.shared.pool.lock().submit(tx.data, tx.origin, Some(ticket));
        let Err(error) = taken else { return };
        if let Some(Waiter::Client(reply)) = self.waiters.remove(&ticket) {
            let _ = reply.send(Err(error.into()));
        }
    }

    pub(super) fn gossip_tx(&mut self, tx: GossipTx, synced: bool) {
        // Nothing is checked before: the network is to try again.
        if !synced || self.setup.host.is_none() {
            let _ = tx.reply.send(if synced { Validation::Accept } else { Validation::Retry });
            return;
        }
        let ticket = self.ticket(Waiter::Network(tx.reply));
        let taken = self.shared.pool.lock().submit(tx.data, Origin::default(), Some(ticket));
        let verdict = match taken {
            Ok(_) => return,
            Err(txpool::SubmitError::Full) => Validation::Retry,
            Err(txpool::SubmitError::Duplicate | txpool::SubmitError::TooLarge) => Validation::Reject,
        };
        if let Some(Waiter::Network(reply)) = self.waiters.remove(&ticket) {
            let _ = reply.send(verdict);
        }
    }

    pub(super) fn fetched(&mut self, txs: Vec<Tx>) {
        let batch = txs.into_iter().map(|tx| tx.data.to_vec()).collect();
        let kept = self.shared.pool.lock().submit_proposed(batch);
        self.inputs.push_back(Input::Transactions(kept));
    }

    pub(super) fn pool_effect(&mut self, effect: txpool::Effect) {
        match effect {
            txpool::Effect::Check { batch, txs } => self.check(batch, txs),
            txpool::Effect::AbortRuntime => {
                tracing::warn!(module = "runtime/txpool", runtime_id = %self.setup.runtime,
                    "transaction batch check takes too long");
                self.abort_runtime();
            }
            txpool::Effect::Answer { ticket, result } => match self.waiters.remove(&ticket) {
                Some(Waiter::Client(reply)) => drop(reply.send(Ok(result))),
                Some(Waiter::Network(reply)) => {
                    let good = result.error.is_success();
                    let _ = reply.send(if good { Validation::Accept } else { Validation::Reject });
                }
                None => {}
            },
            txpool::Effect::Publish(tx) => {
                let message = TxMessage(tx.data.to_vec()).to_bytes();
                if let Err(error) = self.setup.p2p.publish(&self.topics.0, message) {
                    tracing::warn!(module = "runtime/txpool", runtime_id = %self.setup.runtime, tx_hash = %tx.hash,
                        err = %error, "failed to publish a transaction");
                    let now = self.now();
                    self.shared.pool.lock().publish_failed(now, &tx.hash);
                }
            }
            txpool::Effect::Available(txs) => self.inputs.push_back(Input::Transactions(txs)),
        }
    }

    pub(super) fn check(&mut self, batch: u64, txs: Vec<Tx>) {
        let host = self.setup.host.clone().filter(|_| self.runtime.ready);
        let (Some(host), Some(position)) = (host, self.position.clone()) else {
            let now = self.now();
            self.shared.pool.lock().checked(now, batch, Checked::Failed);
            return;
        };
        let (history, aborts) = (Arc::clone(&self.setup.history), self.aborts.clone());
        let checking = effects::check(host, history, aborts, position, txs);
        self.work.spawn(async move { Done::Checked(batch, checking.await) });
    }
}
