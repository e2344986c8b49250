//! What is asked of a running node: how it stands, balances, transactions.

use std::time::Duration;

use base_crypto::context::ChainContext;
use base_crypto::ed25519::SecretKey;
use base_grpc::{Argument, Cbor, Reply};
use base_prims::{Address, Namespace, PublicKey, Quantity};
use wire_consensus::keymanager;
use wire_consensus::registry::NamespaceQuery;
use wire_consensus::staking::{Account, OwnerQuery, Transfer};
use wire_consensus::transaction::{Fee, SignedTransaction, Transaction};

use crate::DevnetError;
use crate::connection::Connection;
use crate::plan::Node;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Gas that a transfer is given: its cost and its bytes.
const TRANSFER_GAS: u64 = 2_000;
const METHOD_TRANSFER: &str = "staking.Transfer";

/// The consensus layer, as one node serves it.
#[derive(Debug, Clone)]
pub struct Chain {
    connection: Connection,
}

impl Chain {
    /// Connects to a node.
    ///
    /// # Errors
    /// If its socket does not answer.
    pub async fn connect(node: &Node) -> Result<Self, DevnetError> {
        Ok(Self { connection: Connection::new(node).await? })
    }

    async fn call<A: Argument, R: Reply>(&self, service: &str, method: &str, argument: A) -> Result<R, DevnetError> {
        self.connection.call(service, method, argument, CALL_TIMEOUT).await
    }

    /// State of a key manager.
    ///
    /// # Errors
    /// If there is none, or the node does not answer.
    pub async fn key_manager(&self, id: Namespace) -> Result<keymanager::Status, DevnetError> {
        let query = Cbor(NamespaceQuery { height: 0, id });
        Ok(self.call::<_, Cbor<_>>("KeyManager", "GetStatus", query).await?.0)
    }

    /// Height of the newest block, 0 before the first.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn height(&self) -> Result<i64, DevnetError> {
        Ok(self.call::<_, Cbor<_>>("Consensus", "GetLatestHeight", ()).await?.0)
    }

    /// The epoch at a height, 0 being the newest.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn epoch(&self, height: i64) -> Result<u64, DevnetError> {
        Ok(self.call::<_, Cbor<_>>("Beacon", "GetEpoch", Cbor(height)).await?.0)
    }

    /// Whether the node has caught up with its network.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn is_synced(&self) -> Result<bool, DevnetError> {
        Ok(self.call::<_, Cbor<_>>("NodeController", "IsSynced", ()).await?.0)
    }

    /// The account of an address.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn account(&self, owner: Address) -> Result<Account, DevnetError> {
        Ok(self.call::<_, Cbor<_>>("Staking", "Account", Cbor(OwnerQuery { height: 0, owner })).await?.0)
    }

    /// Sends tokens and waits until that is in a block. Returns the transaction's hash.
    ///
    /// # Errors
    /// If the node does not answer, or the network refuses.
    pub async fn transfer(
        &self,
        chain: &ChainContext,
        key: &SecretKey,
        to: Address,
        amount: &Quantity,
    ) -> Result<String, DevnetError> {
        let sender = self.account(Address::of_key(&PublicKey::from(key.public()))).await?;
        let fee = Fee { gas: TRANSFER_GAS, ..Fee::default() };
        let body = Transfer { to, amount: amount.clone() };
        let signed = Transaction::new(sender.general.nonce, Some(fee), METHOD_TRANSFER, &body).sign(key, chain);
        let signed: SignedTransaction = signed.map_err(|error| self.connection.failure(error.to_string()))?;
        let hash = signed.hash().to_string();
        self.call::<_, ()>("Consensus", "SubmitTx", Cbor(signed)).await?;
        Ok(hash)
    }
}
