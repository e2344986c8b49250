//! The node itself, and which methods there are.

use std::sync::Arc;
use std::time::Duration;

use base_grpc::{Cbor, Code};
use tokio::time::timeout;
use wire_consensus::upgrade::Descriptor;

use super::served;
use crate::status::{ConsensusStatus, Status, StatusState};
use crate::{BoxFuture, Control, seed_router};

const NODE: &str = "oasis-core.NodeController";

#[tokio::test]
async fn status_of_a_node() {
    let served = served("debond", 0).await;
    let before: Status = served.get("NodeController/GetStatus").await.unwrap();
    let consensus = before.consensus.unwrap();
    assert_eq!((consensus.latest_height, consensus.status), (0, StatusState::SYNCING));
    assert!(consensus.is_validator);
    served.apply(0..5);
    served.control.synced.send_replace(true);
    let status: Status = served.get("NodeController/GetStatus").await.unwrap();
    assert_eq!((&*status.software_version, &*status.mode), ("1.2.3", "client"));
    assert_eq!(status.identity.node.as_bytes(), &[1; 32]);
    let consensus = status.consensus.unwrap();
    let alone: ConsensusStatus = served.get("Consensus/GetStatus").await.unwrap();
    assert_eq!(consensus, alone);
    let (newest, first) = (&served.recorded[4], &served.recorded[0]);
    assert_eq!((consensus.latest_height, consensus.status, consensus.features), (5, StatusState::READY, 3));
    assert_eq!(consensus.latest_hash.as_bytes().as_slice(), newest.0.hash);
    assert_eq!(consensus.genesis_hash.as_bytes().as_slice(), first.0.hash);
    assert_eq!(consensus.last_retained_hash, consensus.genesis_hash);
    assert_eq!(consensus.latest_time.0.seconds(), newest.1.header.time.seconds());
    assert_eq!(consensus.latest_state_root.hash.as_bytes().as_slice(), newest.1.header.app_hash);
    assert_eq!(consensus.latest_block_size, newest.0.block.len() as u64);
    assert_eq!((&*consensus.backend, consensus.version.major), ("tendermint", 7));
    assert_eq!(consensus.p2p.unwrap().peer_id.len(), 40);
    assert_eq!((status.p2p, status.seed, status.debug), (None, None, None));
    served.end().await;
}

#[tokio::test]
async fn the_node_is_asked_and_waited_for() {
    let served = served("debond", 1).await;
    let client = served.client.clone();
    for (is, wait, sender) in
        [("IsSynced", "WaitSync", &served.control.synced), ("IsReady", "WaitReady", &served.control.ready)]
    {
        assert!(!served.get::<bool>(&format!("NodeController/{is}")).await.unwrap());
        let waiting = {
            let client = client.clone();
            tokio::spawn(async move { client.call::<_, ()>(NODE, wait, &()).await })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        sender.send_replace(true);
        timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
        assert!(served.get::<bool>(&format!("NodeController/{is}")).await.unwrap());
    }
    client.call::<_, ()>(NODE, "RequestShutdown", &Cbor(true)).await.unwrap();
    let descriptor = Descriptor { handler: "some-upgrade".to_owned(), ..Descriptor::default() };
    client.call::<_, ()>(NODE, "UpgradeBinary", &Cbor(descriptor.clone())).await.unwrap();
    let error = client.call::<_, ()>(NODE, "CancelUpgrade", &Cbor(descriptor)).await.unwrap_err();
    assert!(error.is("upgrade", 7), "{error}");
    let error = client.call::<_, ()>(NODE, "AddBundle", &Cbor("x.orc".to_owned())).await.unwrap_err();
    assert!(error.is("control", 1), "{error}");
    assert_eq!(*served.control.asked.lock(), ["shutdown true", "upgrade some-upgrade"]);
    let error = client.call::<_, ()>("oasis-core.Consensus", "GetNextBlockState", &()).await.unwrap_err();
    assert_eq!(error.code, Code::Unimplemented);
    served.end().await;
}

#[tokio::test]
async fn test_networks_are_moved_and_waited_for() {
    const DEBUG: &str = "oasis-core.DebugController";
    let served = served("debond", 0).await;
    let client = served.client.clone();
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.call::<_, ()>(DEBUG, "WaitNodesRegistered", &Cbor(1i64)).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished(), "there is no block yet");
    served.apply(0..5);
    timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    let more = client.call::<_, ()>(DEBUG, "WaitNodesRegistered", &Cbor(1000i64));
    assert!(timeout(Duration::from_millis(100), more).await.is_err(), "so many nodes are not there");
    client.call::<_, ()>(DEBUG, "SetEpoch", &Cbor(0u64)).await.unwrap();
    let later = client.call::<_, ()>(DEBUG, "SetEpoch", &Cbor(1u64 << 40));
    assert!(timeout(Duration::from_millis(100), later).await.is_err(), "that epoch does not come");
    assert_eq!(*served.control.asked.lock(), ["epoch 0", "epoch 1099511627776"]);
    served.end().await;
}

#[test]
fn the_status_as_json() {
    use base_codec::Raw;
    use base_codec::json::ToJson as _;
    let mut status = Status { mode: "compute".to_owned(), ..Status::default() };
    // {"a": [1, -2, true, null], "b": h'0102'}
    let raw = [0xa2, 0x61, b'a', 0x84, 0x01, 0x21, 0xf5, 0xf6, 0x61, b'b', 0x42, 1, 2].to_vec();
    status.runtimes.insert(base_prims::Namespace::ZERO, Raw(raw));
    let json = status.to_json();
    let runtime = &json["runtimes"]["00".repeat(32)];
    assert_eq!(runtime.to_string(), r#"{"a":[1,-2,true,null],"b":"AQI="}"#);
    assert!(json.get("keymanager").is_none() && json.get("seed").is_none());
    // A damaged item is shown as nothing, never as a failure.
    status.keymanager = Raw(vec![0xff]);
    assert!(status.to_json()["keymanager"].is_null());
}

struct Seed;

impl Control for Seed {
    fn status(&self) -> Status {
        Status { mode: "seed".to_owned(), ..Status::default() }
    }
    fn request_shutdown(&self, _: bool) -> BoxFuture<'_, Result<(), base_grpc::RpcError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_seed_node_has_little() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("internal.sock");
    let stop = tokio_util::sync::CancellationToken::new();
    let router = Arc::new(seed_router(Arc::new(Seed)));
    let running = tokio::spawn(base_grpc::serve(base_grpc::Listener::unix(&path).unwrap(), router, stop.clone()));
    let client = base_grpc::Client::connect(&base_grpc::Address::Unix(path)).await.unwrap();
    let Cbor(status): Cbor<Status> = client.call(NODE, "GetStatus", &()).await.unwrap();
    assert_eq!((&*status.mode, status.consensus), ("seed", None));
    client.call::<_, ()>(NODE, "RequestShutdown", &Cbor(false)).await.unwrap();
    for method in ["WaitSync", "IsSynced", "WaitReady", "IsReady"] {
        let error = client.call::<_, bytes::Bytes>(NODE, method, &()).await.unwrap_err();
        assert!(error.is("control", 1), "{method}: {error}");
    }
    let error = client.call::<_, ()>(NODE, "UpgradeBinary", &Cbor(Descriptor::default())).await.unwrap_err();
    assert!(error.is("control", 1), "{error}");
    stop.cancel();
    running.await.unwrap();
}

/// The reference's methods, without those of services that this crate has no part of.
const METHODS: [(&str, &str); 13] = [
    (
        "NodeController",
        "RequestShutdown WaitSync WaitReady IsSynced IsReady UpgradeBinary CancelUpgrade GetStatus AddBundle",
    ),
    ("DebugController", "SetEpoch WaitNodesRegistered"),
    (
        "Consensus",
        "SubmitTx SubmitTxNoWait SubmitTxWithProof StateToGenesis EstimateGas MinGasPrice GetBlock GetBlockResults \
         GetLightBlock GetValidators GetLatestHeight GetLastRetainedHeight GetTransactions GetTransactionsWithResults \
         GetTransactionsWithProofs GetUnconfirmedTransactions GetGenesisDocument StateSyncGet StateSyncGetPrefixes \
         StateSyncIterate GetChainContext GetStatus GetParameters SubmitEvidence WatchBlocks",
    ),
    (
        "Beacon",
        "GetBaseEpoch GetEpoch GetNextEpoch GetFutureEpoch GetEpochBlock WaitEpoch GetBeacon StateToGenesis \
         ConsensusParameters WatchEpochs",
    ),
    ("Scheduler", "GetValidators GetCommittees StateToGenesis ConsensusParameters WatchCommittees"),
    (
        "Registry",
        "GetEntity GetNode GetNodeStatus GetEntities GetNodes GetNodeByConsensusAddress GetRuntime GetRuntimes \
         StateToGenesis ConsensusParameters GetEvents WatchEntities WatchNodes WatchNodeList WatchRuntimes WatchEvents",
    ),
    (
        "Staking",
        "TokenSymbol TokenValueExponent TotalSupply CommonPool LastBlockFees GovernanceDeposits Addresses \
         CommissionScheduleAddresses Threshold Account DelegationsFor DelegationInfosFor DelegationsTo \
         DebondingDelegationsFor DebondingDelegationInfosFor DebondingDelegationsTo Allowance StateToGenesis \
         ConsensusParameters GetEvents WatchEvents",
    ),
    ("KeyManager", SECRETS),
    ("KeyManager.Secrets", SECRETS),
    ("KeyManager.Churp", "Status Statuses AllStatuses StateToGenesis ConsensusParameters WatchStatuses"),
    (
        "RootHash",
        "GetGenesisBlock GetLatestBlock GetRuntimeState GetLastRoundResults GetPastRoundRoots \
         GetIncomingMessageQueueMeta GetRoundRoots GetIncomingMessageQueue StateToGenesis ConsensusParameters GetEvents \
         WatchBlocks WatchEvents",
    ),
    (
        "Governance",
        "ActiveProposals Proposals PendingUpgrades Proposal Votes StateToGenesis ConsensusParameters GetEvents \
         WatchEvents",
    ),
    ("Vault", "Vaults Vault PendingActions AddressState StateToGenesis ConsensusParameters GetEvents WatchEvents"),
];
const SECRETS: &str = "GetStatus GetMasterSecret GetEphemeralSecret GetStatuses StateToGenesis WatchStatuses \
                       WatchMasterSecrets WatchEphemeralSecrets";

#[tokio::test]
async fn all_methods_are_there() {
    let served = served("debond", 0).await;
    let names = METHODS.iter().flat_map(|(service, methods)| {
        methods.split_whitespace().map(move |method| format!("oasis-core.{service}/{method}"))
    });
    let mut expected: Vec<_> = names.collect();
    expected.sort();
    assert_eq!(served.methods, expected);
    served.end().await;
}
