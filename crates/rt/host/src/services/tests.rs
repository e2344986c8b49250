//! Who gets what: parts that are there, parts that are not, and what off-chain components get.

use base_kv::Memory;
use parking_lot::Mutex;
use wire_runtime::{enclave_rpc, host::*};

use super::*;
use crate::mock::MockHost;

struct Chain;

impl Consensus for Chain {
    fn light_block(&self, height: u64) -> BoxFuture<'_, Served<LightBlock>> {
        Box::pin(async move { Ok(LightBlock { height: i64::try_from(height).unwrap_or(0), meta: None }) })
    }
    fn validators(&self, height: u64) -> BoxFuture<'_, Served<Validators>> {
        Box::pin(async move { Ok(Validators { height: i64::try_from(height).unwrap_or(0), meta: None }) })
    }
    fn events(&self, _: u64, kind: EventKind) -> BoxFuture<'_, Served<Vec<ConsensusEvent>>> {
        Box::pin(async move { if kind == EventKind::STAKING { Ok(Vec::new()) } else { not_supported() } })
    }
    fn genesis_height(&self) -> BoxFuture<'_, Served<u64>> {
        Box::pin(async { Ok(7) })
    }
    fn transactions(&self, _: u64) -> BoxFuture<'_, Served<Vec<ProvenBytes>>> {
        Box::pin(async {
            let transaction = |method: &str| {
                let inner = cbor::to_vec(&Transaction { method: method.into(), ..Transaction::default() });
                let mut signed = SignedTransaction::default();
                signed.0.untrusted_raw_value = Some(inner.into());
                cbor::to_vec(&signed)
            };
            let item = |transaction, proof: u8| ProvenBytes { transaction, proof: vec![proof] };
            Ok(vec![item(transaction("staking.Transfer"), 1), item(transaction(METHOD_META), 2), item(vec![0xff], 3)])
        })
    }
    fn prove_freshness(&self, _: [u8; 32]) -> BoxFuture<'_, Served<ProvenTransaction>> {
        Box::pin(async { Ok(ProvenTransaction::default()) })
    }
    fn state(&self, _: SyncRequest) -> BoxFuture<'_, Served<ProofResponse>> {
        Box::pin(async { Ok(ProofResponse::default()) })
    }
}

fn services() -> Services {
    Services {
        consensus: Some(Arc::new(Chain)),
        node_id: Some(PublicKey::new([5; 32])),
        local_storage: Some(LocalStorage::new(Arc::new(Memory::default()))),
        ..Services::default()
    }
}

fn get(key: &[u8]) -> Body {
    Body::HostLocalStorageGetRequest(LocalStorageGetRequest { key: Some(key.to_vec().into()) })
}

fn set(key: &[u8], value: Vec<u8>) -> Body {
    Body::HostLocalStorageSetRequest(LocalStorageSetRequest {
        key: Some(key.to_vec().into()),
        value: Some(value.into()),
    })
}

fn value(answer: Served<Body>) -> Option<Vec<u8>> {
    match answer.expect("answers") {
        Body::HostLocalStorageGetResponse(answer) => answer.value.map(|v| v.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_request_is_answered_by_its_part() {
    let services = services();
    let requests = [
        Body::HostIdentityRequest(Empty {}),
        Body::HostFetchConsensusBlockRequest(HeightRequest { height: 3 }),
        Body::HostFetchConsensusValidatorsRequest(HeightRequest { height: 3 }),
        Body::HostFetchConsensusEventsRequest(FetchConsensusEventsRequest { height: 3, kind: EventKind::STAKING }),
        Body::HostFetchGenesisHeightRequest(Empty {}),
        Body::HostFetchBlockMetadataTxRequest(HeightRequest { height: 3 }),
        Body::HostProveFreshnessRequest(ProveFreshnessRequest { blob: [0; 32] }),
        Body::HostStorageSyncRequest(Box::new(StorageSyncRequest {
            endpoint: Some(StorageEndpoint::CONSENSUS),
            get: Some(GetRequest::default()),
            ..StorageSyncRequest::default()
        })),
        get(b"none"),
        set(b"a", vec![1]),
    ];
    for request in requests {
        let answer = services.handle(request.clone()).await;
        assert!(answer.as_ref().is_ok_and(|answer| answer.answers(&request)), "{request:?}: {answer:?}");
        // A node without that part says so.
        let refused = Services::default().handle(request.clone()).await;
        assert_eq!(refused, Err(Error::method_not_supported()), "{request:?}");
    }
    let metadata = services.handle(Body::HostFetchBlockMetadataTxRequest(HeightRequest { height: 3 })).await;
    let Ok(Body::HostFetchBlockMetadataTxResponse(found)) = metadata else { panic!("{metadata:?}") };
    let proof = found.proof.expect("there");
    assert_eq!((proof.height, proof.raw_proof.map(Vec::from)), (3, Some(vec![2])));
    let runtime_state = StorageSyncRequest { get: Some(GetRequest::default()), ..StorageSyncRequest::default() };
    let refused = services.handle(Body::HostStorageSyncRequest(Box::new(runtime_state))).await;
    assert_eq!(refused, Err(plain("endpoint not supported")));
    let elsewhere = host::RpcCallRequest { endpoint: "elsewhere".into(), ..host::RpcCallRequest::default() };
    assert_eq!(
        services.handle(Body::HostRPCCallRequest(Box::new(elsewhere))).await,
        Err(plain("endpoint not supported"))
    );
}

#[tokio::test]
async fn local_storage_is_bounded() {
    let services = services();
    services.handle(set(b"key", vec![1, 2])).await.expect("sets");
    assert_eq!(value(services.handle(get(b"key")).await), Some(vec![1, 2]));
    assert_eq!(value(services.handle(get(b"other")).await), None);
    for request in [
        set(b"", vec![]),
        set(&[1; MAX_LOCAL_KEY_BYTES + 1], vec![]),
        set(b"large", vec![0; MAX_LOCAL_VALUE_BYTES + 1]),
        get(b""),
    ] {
        assert!(services.handle(request).await.is_err());
    }
    // The whole is bounded too.
    let value = vec![0; MAX_LOCAL_VALUE_BYTES];
    let mut refused = None;
    for n in 0..=MAX_LOCAL_STORAGE_BYTES / MAX_LOCAL_VALUE_BYTES as u64 {
        if let Err(e) = services.handle(set(&n.to_le_bytes(), value.clone())).await {
            refused = Some(e.message);
            break;
        }
    }
    assert!(refused.is_some_and(|text| text.contains("full")));
}

#[derive(Default)]
struct Seen {
    wants: Mutex<Vec<(ComponentId, Notifications)>>,
}

impl Registrations for Seen {
    fn register(&self, component: &ComponentId, wants: Notifications) {
        self.wants.lock().push((component.clone(), wants));
    }
}

#[tokio::test]
async fn off_chain_components_get_their_own() {
    let parent = Arc::new(services());
    let component = ComponentId::Rofl("abc".into());
    let seen = Arc::new(Seen::default());
    let ronl: Arc<dyn RuntimeHost> = Arc::new(MockHost::new(Default::default()));
    let rofl = RoflServices {
        parent: Arc::clone(&parent),
        component: component.clone(),
        ronl: Some(Arc::downgrade(&ronl)),
        submission: None,
        registrations: Some(Arc::clone(&seen) as Arc<dyn Registrations>),
        management: None,
    };
    rofl.handle(set(b"key", vec![9])).await.expect("sets");
    assert_eq!(value(rofl.handle(get(b"key")).await), Some(vec![9]));
    assert_eq!(value(parent.handle(get(b"key")).await), None);
    assert_eq!(value(parent.handle(get(b"rofl.abc:key")).await), Some(vec![9]));

    let register = RegisterNotifyRequest { runtime_block: true, runtime_event: None };
    rofl.handle(Body::HostRegisterNotifyRequest(register)).await.expect("registers");
    assert_eq!(*seen.wants.lock(), [(component, Notifications { blocks: true, events: None })]);

    let call = |endpoint: &str, kind| {
        Body::HostRPCCallRequest(Box::new(host::RpcCallRequest {
            endpoint: endpoint.into(),
            kind: Some(kind),
            ..host::RpcCallRequest::default()
        }))
    };
    let insecure = rofl.handle(call(rofl::ENDPOINT_RONL, enclave_rpc::Kind(1))).await;
    assert_eq!(insecure, Err(plain("only secure noise sessions are allowed")));
    // It reaches the on-chain component, which here has no such method.
    let reached = rofl.handle(call(rofl::ENDPOINT_RONL, Kind::NOISE_SESSION)).await;
    assert!(reached.is_err_and(|e| e.message.contains("(mock)")));
    assert!(rofl.handle(call(rofl::ENDPOINT_LOG_MANAGER, Kind::NOISE_SESSION)).await.is_err());
    assert_eq!(
        rofl.handle(Body::HostSubmitTxRequest(SubmitTxRequest::default())).await,
        Err(Error::method_not_supported())
    );
    // Everything else is the parent's.
    assert!(rofl.handle(Body::HostIdentityRequest(Empty {})).await.is_ok());
}
