//! A small server, and the client against it.

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::*;

/// A request.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    cut: Option<usize>,
    /// Waits before each byte.
    slow: bool,
}

impl Reply {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_vec(), cut: None, slow: false }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok(b"") }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn slow(mut self) -> Self {
        self.slow = true;
        self
    }
}

/// A server; it ends when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves with a function.
pub(crate) async fn serve(answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.ok()?;
                let path = line.split(' ').nth(1)?.to_owned();
                let mut headers = BTreeMap::new();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.ok()?;
                    let Some((name, value)) = line.trim().split_once(": ") else { break };
                    headers.insert(name.to_lowercase(), value.to_owned());
                }
                let reply = answer(Request { path, headers });
                let mut head = format!(
                    "HTTP/1.1 {} X\r\ncontent-length: {}\r\nconnection: close\r\n",
                    reply.status,
                    reply.body.len()
                );
                for (name, value) in &reply.headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                stream.write_all(head.as_bytes()).await.ok()?;
                let sent = reply.body.get(..reply.cut.unwrap_or(reply.body.len()))?;
                if reply.slow {
                    for byte in sent {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        stream.write_all(&[*byte]).await.ok()?;
                    }
                } else {
                    stream.write_all(sent).await.ok()?;
                }
                stream.shutdown().await.ok()
            });
        }
    });
    Server { url, task }
}

fn client() -> Client {
    Client::new(Duration::from_secs(20))
}

#[tokio::test]
async fn documents_are_bounded() {
    let server = serve(|request| match request.path.as_str() {
        "/ten" => Reply::ok(b"0123456789").with_header("X-Name", "value"),
        _ => Reply::status(404),
    })
    .await;
    let url = format!("{}/ten", server.url);
    let answer = client().get(&url, &[], 10, false).await.expect("fits");
    assert_eq!((answer.body.as_slice(), answer.header("x-name")), (&b"0123456789"[..], Some("value")));
    assert!(matches!(client().get(&url, &[], 9, false).await, Err(HttpError::TooLarge { limit: 9, .. })));
    assert_eq!(client().get(&url, &[], 4, true).await.expect("cut").body, b"0123");
    let missing = client().get(&format!("{}/none", server.url), &[], 10, false).await;
    assert!(matches!(missing, Err(HttpError::Status { status: 404, .. })));
    assert!(matches!(client().get("http://127.0.0.1:9/", &[], 10, false).await, Err(HttpError::Transport { .. })));
}

#[tokio::test]
async fn a_slow_server_does_not_hold_up() {
    let server = serve(|_| Reply::ok(&[b'x'; 1000]).slow()).await;
    let begin = std::time::Instant::now();
    let answer = Client::new(Duration::from_secs(1)).get(&server.url, &[], 1000, false).await;
    assert!(matches!(answer, Err(HttpError::Transport { .. })), "{answer:?}");
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn downloads_go_on_where_they_broke_off() {
    let content: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let served = content.clone();
    let server = serve(move |request| {
        let tag = "\"v1\"";
        match request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        {
            Some(from) if request.headers.get("if-range").map(String::as_str) == Some(tag) => {
                let from: usize = from;
                Reply::ok(&served[from..])
                    .with_status(206)
                    .with_header("Content-Range", &format!("bytes {from}-{}/{}", served.len() - 1, served.len()))
            }
            _ => Reply::ok(&served).with_header("ETag", tag).cut_after(40_000),
        }
    })
    .await;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("file");
    let stop = CancellationToken::new();
    let (progress, outcome) = client().download(&server.url, &path, 1 << 20, Progress::default(), &stop).await;
    assert!(outcome.is_err_and(|e| e.is_resumable()));
    assert_eq!((progress.bytes, progress.total), (40_000, Some(100_000)));
    let (progress, outcome) = client().download(&server.url, &path, 1 << 20, progress, &stop).await;
    assert_eq!((progress.bytes, outcome), (100_000, Ok(())));
    assert_eq!(std::fs::read(&path).expect("there"), content);
    // Exactly the limit is too much.
    let (_, outcome) = client().download(&server.url, &path, 100_000, Progress::default(), &stop).await;
    assert!(matches!(outcome, Err(HttpError::TooLarge { .. })));
    stop.cancel();
    let (_, outcome) = client().download(&server.url, &path, 1 << 20, Progress::default(), &stop).await;
    assert_eq!(outcome, Err(HttpError::Stopped));
}
