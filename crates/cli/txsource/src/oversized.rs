//! Transactions that are too large for a block: they must be refused.

use std::time::Duration;

use base_codec::{Bytes, Codec};
use base_prims::Address;
use wire_consensus::errors::consensus::OVERSIZED_TX;
use wire_consensus::staking::METHOD_TRANSFER;
use wire_consensus::transaction::{Fee, Transaction};

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, MODULE, WorkloadError, violated};

/// Gas beside what bytes cost.
const GAS: u64 = 10_000;
/// Name of the gas operation of a transaction's byte.
const TX_BYTE: &str = "tx_byte";
/// How long the node may take to refuse.
const REFUSE_TIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// A transfer of nothing, with a field too much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Padded {
    to: Address,
    data: Bytes,
}

/// Answer of `Consensus.GetParameters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Parameters {
    height: i64,
    parameters: wire_consensus::consensus::Parameters,
    meta: Bytes,
}

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let key = job.random.key();
    let to = address(&key);
    let params: Parameters = job.node().ask("Consensus", "GetParameters", LATEST).await?;
    let params = params.parameters;
    let bytes = params.max_tx_size;
    let per_byte = params.gas_costs.get(TX_BYTE).copied().unwrap_or(0);
    let gas = GAS.saturating_add(bytes.saturating_mul(per_byte));
    let fee = Fee { amount: job.base.cost(GAS), gas };
    let size = usize::try_from(bytes).map_err(|_| WorkloadError::Setup("transactions have no limit".to_owned()))?;
    loop {
        let body = Padded { to, data: Bytes(job.random.bytes(size)) };
        job.base.give_amount(to, fee.amount.clone()).await?;
        let signed = job.base.sign(&key, &Transaction::new(0, Some(fee.clone()), METHOD_TRANSFER, &body))?;
        tracing::debug!(module = MODULE, payload_size = size, "submitting oversized transaction");
        match tokio::time::timeout(REFUSE_TIME, job.base.send(signed)).await {
            Ok(Err(error)) if error.is(&OVERSIZED_TX) => {
                tracing::info!(module = MODULE, "transaction rejected due to ErrOversizedTx");
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(())) => return violated("successfully submitted an oversized transaction"),
            Err(_) => {
                return Err(WorkloadError::Timeout { what: "refusing an oversized transaction", limit: REFUSE_TIME });
            }
        }
        if !job.deadline.pause(PAUSE).await {
            return Ok(());
        }
    }
}
