//! Calls, streams, errors and limits over real sockets.

use std::sync::Arc;
use std::time::Duration;

use base_codec::Codec;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{Address, BoxStream, Cbor, Client, Listener, Router, RpcError, serve};

#[derive(Debug, Default, PartialEq, Codec)]
struct Query {
    height: i64,
}

#[derive(Debug, Default, PartialEq, Codec)]
struct LongQuery {
    height: i64,
    more: String,
}

const SERVICE: &str = "oasis-core.Test";

fn router() -> Router {
    let mut router = Router::new();
    router
        .unary(SERVICE, "Double", |Cbor(query): Cbor<Query>| async move { Ok(Cbor(query.height * 2)) })
        .unary(SERVICE, "Nothing", |()| async { Ok(()) })
        .unary(SERVICE, "Fail", |()| async {
            Err::<(), _>(RpcError::service("registry", 10, "registry: no such node"))
        })
        .unary(SERVICE, "Panic", |()| async { if true { panic!("in a handler") } else { Ok(()) } })
        .unary(SERVICE, "Size", |Cbor(bytes): Cbor<base_codec::Bytes>| async move { Ok(Cbor(bytes.0.len() as u64)) })
        .streaming(SERVICE, "Count", |Cbor(n): Cbor<u64>| async move {
            let values = stream::iter((0..n).map(|i| Ok(Cbor(i))));
            let end = stream::once(async { Err(RpcError::service("test", 1, "the end")) });
            Ok(Box::pin(values.chain(end)) as BoxStream<Cbor<u64>>)
        })
        .streaming(SERVICE, "Forever", |()| async {
            Ok(Box::pin(stream::pending::<Result<Cbor<u64>, RpcError>>()) as BoxStream<_>)
        });
    router
}

struct Server {
    client: Client,
    path: std::path::PathBuf,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn start(router: Router) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("internal.sock");
    let listener = Listener::unix(&path).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(serve(listener, Arc::new(router), stop.clone()));
    let client = Client::connect(&Address::Unix(path.clone())).await.unwrap();
    Server { client, path, stop, running, _dir: dir }
}

#[tokio::test]
async fn calls_and_streams() {
    let server = start(router()).await;
    let client = &server.client;
    let Cbor(doubled): Cbor<i64> = client.call(SERVICE, "Double", &Cbor(Query { height: 21 })).await.unwrap();
    assert_eq!(doubled, 42);
    let long = Cbor(LongQuery { height: 1, more: "unknown keys are skipped".to_owned() });
    let Cbor(doubled): Cbor<i64> = client.call(SERVICE, "Double", &long).await.unwrap();
    assert_eq!(doubled, 2);
    let () = client.call(SERVICE, "Nothing", &()).await.unwrap();

    let mut counts = client.stream::<_, Cbor<u64>>(SERVICE, "Count", &Cbor(1000u64)).await.unwrap();
    for i in 0..1000 {
        assert_eq!(counts.next().await.unwrap().unwrap(), Cbor(i));
    }
    assert!(counts.next().await.unwrap().unwrap_err().is("test", 1));
    assert!(counts.next().await.is_none());

    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&server.path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    server.stop.cancel();
    server.running.await.unwrap();
    assert!(!server.path.exists());
}

#[tokio::test]
async fn errors_say_what_they_are() {
    let server = start(router()).await;
    let client = &server.client;
    let error = client.call::<_, ()>(SERVICE, "Fail", &()).await.unwrap_err();
    assert_eq!(error, RpcError::service("registry", 10, "registry: no such node"));
    let error = client.call::<_, ()>("oasis-core.Other", "X", &()).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::Unimplemented, "unknown service oasis-core.Other"));
    let error = client.call::<_, ()>(SERVICE, "X", &()).await.unwrap_err();
    assert_eq!(error.message, "unknown method X for service oasis-core.Test");
    let error = client.call::<_, Cbor<i64>>(SERVICE, "Double", &Cbor("text".to_owned())).await.unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert!(client.call::<_, ()>(SERVICE, "Panic", &()).await.is_err());
    let () = client.call(SERVICE, "Nothing", &()).await.expect("the server goes on");
}

#[tokio::test]
async fn calls_wait_for_the_router_that_is_to_come() {
    let (told, later) = tokio::sync::watch::channel(None);
    let mut first = Router::new();
    first.unary(SERVICE, "Double", |Cbor(_): Cbor<Query>| async { Ok(Cbor(-1)) }).until(later);
    let server = start(first).await;
    let double = async |expected: i64| {
        let Cbor(doubled): Cbor<i64> =
            server.client.call(SERVICE, "Double", &Cbor(Query { height: 21 })).await.unwrap();
        assert_eq!(doubled, expected);
    };
    double(-1).await;
    let client = server.client.clone();
    let mut waiting = tokio::spawn(async move { client.call::<_, ()>(SERVICE, "Nothing", &()).await });
    double(-1).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "there is nobody yet");
    told.send_replace(Some(Arc::new(router())));
    waiting.await.unwrap().unwrap();
    double(42).await;

    // One that never comes.
    let (told, later) = tokio::sync::watch::channel(None);
    let mut first = Router::new();
    let server = start(first.until(later).clone()).await;
    let client = server.client.clone();
    let waiting = tokio::spawn(async move { client.call::<_, ()>(SERVICE, "Nothing", &()).await });
    drop(told);
    assert_eq!(waiting.await.unwrap().unwrap_err().code, Code::Unavailable);
}

#[tokio::test]
async fn guards_and_limits() {
    let mut guarded = router();
    guarded.guard(|path, _| {
        if path.ends_with("/Nothing") { Err(RpcError::with(Code::PermissionDenied, "not you")) } else { Ok(()) }
    });
    let server = start(guarded).await;
    let client = &server.client;
    let error = client.call::<_, ()>(SERVICE, "Nothing", &()).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    let megabyte = Cbor(base_codec::Bytes(vec![1; 1 << 20]));
    let Cbor(size): Cbor<u64> = client.call(SERVICE, "Size", &megabyte).await.unwrap();
    assert_eq!(size, 1 << 20);
    let _forever = client.stream::<_, Cbor<u64>>(SERVICE, "Forever", &()).await.unwrap();
    let stopped = std::time::Instant::now();
    server.stop.cancel();
    server.running.await.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(8), "an open stream does not hold up the end");
}

#[tokio::test]
async fn takes_over_a_dead_socket_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("internal.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    let listener = Listener::unix(&path).unwrap();
    let error = Listener::unix(&path).unwrap_err().to_string();
    assert!(error.contains("is the node running already?"), "{error}");
    drop(listener);
    std::fs::write(&path, "content").unwrap();
    assert!(Listener::unix(&path).unwrap_err().to_string().contains("is no socket"));
    std::fs::write(&path, "").unwrap();
    drop(Listener::unix(&path).unwrap());
    assert!("nonsense".parse::<Address>().is_err());
    let nobody: Address = "127.0.0.1:1".parse().unwrap();
    let error = Client::connect(&nobody).await.unwrap_err().to_string();
    assert!(error.starts_with("no node answers at 127.0.0.1:1: "), "{error}");
}
