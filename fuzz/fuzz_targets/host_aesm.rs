//! Answers of the AESM daemon: the same bytes for every question.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rt_host::aesm::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"))
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("aesm");
    let mut framed = u32::try_from(data.len()).expect("short").to_le_bytes().to_vec();
    framed.extend_from_slice(data);
    runtime().block_on(async {
        let listener = UnixListener::bind(&path).expect("binds");
        let daemon = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Ok(length) = stream.read_u32_le().await else { continue };
                let mut request = vec![0; length as usize];
                if stream.read_exact(&mut request).await.is_ok() {
                    let _ = stream.write_all(&framed).await;
                }
            }
        });
        let client = Client::new(&path);
        if let Ok(key) = client.ecdsa_key().await {
            let _ = client.target_info(&key).await;
            let _ = client.quote(&key, b"report").await;
        }
        let _ = client.init_epid_quote().await;
        let _ = client.epid_quote(b"report", true, &[5; 16], b"nonce", &[]).await;
        daemon.abort();
    });
});
