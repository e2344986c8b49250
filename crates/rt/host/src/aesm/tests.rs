//! The client against a simulated daemon.

use std::sync::Arc;

use tokio::net::UnixListener;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;

/// A daemon that answers with what a function says.
pub(crate) struct FakeDaemon {
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn daemon(answer: impl Fn(Request) -> Response + Send + Sync + 'static) -> FakeDaemon {
    raw_daemon(move |request| {
        let body = answer(Request::decode(request).expect("a request")).encode_to_vec();
        let mut out = u32::try_from(body.len()).expect("short").to_le_bytes().to_vec();
        out.extend_from_slice(&body);
        out
    })
}

fn raw_daemon(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> FakeDaemon {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("aesm.socket");
    let listener = UnixListener::bind(&path).expect("binds");
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = stream.read_u32_le().await.expect("a length");
            let mut request = vec![0; usize::try_from(length).expect("short")];
            stream.read_exact(&mut request).await.expect("a request");
            let _ = stream.write_all(&answer(&request)).await;
        }
    });
    FakeDaemon { path, _dir: dir, task }
}

fn key_bytes(algorithm: u32) -> Vec<u8> {
    let mut out = vec![0; KEY_BYTES];
    out[4] = 32;
    out[154..158].copy_from_slice(&algorithm.to_le_bytes());
    out[100] = 7;
    out
}

/// What a machine with DCAP answers; `quote` makes the quote of a report.
pub(crate) fn dcap(request: Request, quote: impl Fn(Vec<u8>) -> Vec<u8>) -> Response {
    let mut out = Response::default();
    if request.key_count.is_some() {
        out.key_count = Some(proto::GetSupportedAttKeyIdNumResponse { error_code: 0, att_key_id_num: Some(3) });
    } else if let Some(keys) = request.keys {
        assert_eq!(keys.buf_size, 768);
        let mut bad = key_bytes(ECDSA_P256);
        bad[4] = 31;
        let att_key_ids = Some([bad, key_bytes(1), key_bytes(ECDSA_P256)].concat());
        out.keys = Some(proto::GetSupportedAttKeyIdsResponse { error_code: 0, att_key_ids });
    } else if let Some(init) = request.init_quote_ex {
        assert_eq!(init.att_key_id, Some(key_bytes(ECDSA_P256)));
        assert_eq!(init.buf_size, init.b_pub_key_id.then_some(32));
        out.init_quote_ex = Some(proto::InitQuoteExResponse {
            error_code: 0,
            target_info: Some(vec![9; 512]),
            pub_key_id_size: Some(32),
            pub_key_id: None,
        });
    } else if request.get_quote_size_ex.is_some() {
        out.get_quote_size_ex = Some(proto::GetQuoteSizeExResponse { error_code: 0, quote_size: Some(5000) });
    } else if let Some(get) = request.get_quote_ex {
        assert_eq!(get.buf_size, 5000);
        out.get_quote_ex =
            Some(proto::GetQuoteExResponse { error_code: 0, quote: Some(quote(get.report)), qe_report_info: None });
    }
    out
}

#[tokio::test]
async fn makes_quotes_with_the_first_suitable_key() {
    let daemon = daemon(|request| dcap(request, |report| [report, b" quoted".to_vec()].concat()));
    let client = Client::new(&daemon.path);
    let key = client.ecdsa_key().await.expect("a key");
    assert_eq!(key.algorithm(), Some(ECDSA_P256));
    assert_eq!(client.target_info(&key).await.expect("answers"), vec![9; 512]);
    assert_eq!(client.quote(&key, b"report").await.expect("answers"), b"report quoted");
}

#[tokio::test]
async fn older_quotes_are_trimmed_and_errors_are_named() {
    let older = daemon(|request| {
        let mut out = Response::default();
        if request.init_quote.is_some() {
            out.init_quote = Some(proto::InitQuoteResponse { error_code: 30, target_info: None, gid: None });
        } else if let Some(get) = request.get_quote {
            assert_eq!((get.quote_type, get.nonce, get.sig_rl), (1, Some(b"nonce".to_vec()), None));
            let mut quote = vec![1; usize::try_from(get.buf_size).expect("small")];
            quote[432..436].copy_from_slice(&100u32.to_le_bytes());
            out.get_quote = Some(proto::GetQuoteResponse { error_code: 0, quote: Some(quote), qe_report: None });
        }
        out
    });
    let client = Client::new(&older.path);
    let quote = client.epid_quote(b"report", true, &[5; 16], b"nonce", &[]).await.expect("a quote");
    assert_eq!(quote.len(), 536);
    let error = client.init_epid_quote().await.expect_err("refused");
    assert!(error.to_string().starts_with("aesm: error 30 ("), "{error}");
    // What it does not answer is malformed.
    assert_eq!(client.ecdsa_key().await, Err(Error::Malformed));
}

#[tokio::test]
async fn broken_daemons_are_reported() {
    let missing = Client::new(Path::new("/nowhere/aesm.socket"));
    assert!(matches!(missing.ecdsa_key().await, Err(Error::Unreachable { .. })));
    for answer in [u32::MAX.to_le_bytes().to_vec(), vec![3, 0, 0, 0, 0xff, 0xff, 0xff], vec![0; 4]] {
        let daemon = raw_daemon(move |_| answer.clone());
        assert_eq!(Client::new(&daemon.path).ecdsa_key().await, Err(Error::Malformed));
    }
    let silent = raw_daemon(|_| vec![9, 0, 0, 0, 1]);
    assert!(matches!(Client::new(&silent.path).ecdsa_key().await, Err(Error::Unreachable { .. })));
}

/// Answers of any kind, well-formed and not: every call ends with a result, and never with more than was announced.
#[tokio::test]
async fn arbitrary_answers_never_panic() {
    let mut runner = TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let optional = prop::option::of(prop::collection::vec(any::<u8>(), 0..600));
    let (mut malformed, mut calls) = (0, 0);
    for _ in 0..60 {
        let mut draw = || bytes.new_tree(&mut runner).expect("a value").current();
        let junk = draw();
        let mut keys = draw();
        keys.resize(keys.len() % 4 * KEY_BYTES, 3);
        let data = optional.new_tree(&mut runner).expect("a value").current();
        let code = u32::from(junk.len() % 5 == 0);
        let whole = Response {
            init_quote: Some(proto::InitQuoteResponse { error_code: code, target_info: data.clone(), gid: None }),
            get_quote: Some(proto::GetQuoteResponse { error_code: code, quote: data.clone(), qe_report: None }),
            init_quote_ex: Some(proto::InitQuoteExResponse { error_code: code, ..Default::default() }),
            get_quote_size_ex: Some(proto::GetQuoteSizeExResponse { error_code: code, quote_size: Some(u32::MAX) }),
            get_quote_ex: Some(proto::GetQuoteExResponse { error_code: code, quote: data, qe_report_info: None }),
            key_count: Some(proto::GetSupportedAttKeyIdNumResponse {
                error_code: code,
                att_key_id_num: Some(u32::MAX),
            }),
            keys: Some(proto::GetSupportedAttKeyIdsResponse { error_code: code, att_key_ids: Some(keys) }),
        };
        for body in [junk, whole.encode_to_vec()] {
            let daemon = raw_daemon(move |_| {
                let mut out = u32::try_from(body.len()).expect("short").to_le_bytes().to_vec();
                out.extend_from_slice(&body);
                out
            });
            let client = Client::new(&daemon.path);
            let key = Key(vec![0; KEY_BYTES]);
            let outcomes = [
                client.ecdsa_key().await.err(),
                client.target_info(&key).await.err(),
                client.quote(&key, b"report").await.err(),
                client.init_epid_quote().await.err(),
                client.epid_quote(b"report", true, &[5; 16], b"nonce", &[]).await.err(),
            ];
            calls += outcomes.len();
            malformed += outcomes.iter().flatten().filter(|e| **e == Error::Malformed).count();
        }
    }
    println!("{calls} calls, {malformed} malformed answers");
    assert!(malformed > 60);
}
