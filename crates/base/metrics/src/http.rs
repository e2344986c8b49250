//! As much of HTTP/1.1 as scraping, profiling, pushing and a page need: one request per connection, everything bounded.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Longest head of a request in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Longest head of an answer to a push that is read.
const MAX_ANSWER: usize = 4 << 10;
/// Longest wait for the head of a request, for sending the answer, and for a push.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 16;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Path of the target.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// What the client calls this server, with the port; empty if it does not say.
    pub host: String,
}

impl Request {
    /// A whole number of the query.
    pub fn number(&self, name: &str) -> Option<u64> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
    }

    /// A text of the query, with its escapes undone; empty if it is not there.
    pub fn text(&self, name: &str) -> String {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map_or_else(String::new, |(_, value)| unescape(value))
    }
}

/// Undoes the escapes of a query; one that is incomplete stays as it is.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            (b'+', _, _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Code and text.
    pub status: &'static str,
    /// Type of the body.
    pub content_type: &'static str,
    /// Further lines of the head, each with its end.
    pub head: &'static str,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Answer {
    /// Success.
    pub fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: "200 OK", content_type, head: "", body: body.into() }
    }

    /// There is nothing of that path.
    pub fn not_found() -> Self {
        Self {
            status: "404 Not Found",
            content_type: "text/plain; charset=utf-8",
            head: "",
            body: b"404 page not found\n".to_vec(),
        }
    }
}

/// Reads up to the empty line; `None` if it is too long, or ends before.
async fn read_head(stream: &mut (impl AsyncRead + Unpin), most: usize) -> Option<String> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await.ok()?;
        if n == 0 || head.len() + n > most {
            return None;
        }
        head.extend_from_slice(chunk.get(..n)?);
    }
    String::from_utf8(head).ok()
}

fn parse(head: &str) -> Result<(Request, bool), &'static str> {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("400 Bad Request");
    }
    let head_only = match method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err("405 Method Not Allowed"),
    };
    let target = target.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let host = fields.find(|(name, _)| name.eq_ignore_ascii_case("host")).map_or("", |(_, value)| value.trim());
    Ok((Request { path: path.to_owned(), query: query.to_owned(), host: host.to_owned() }, head_only))
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request.
    fn answer(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

async fn handle(mut stream: TcpStream, handler: &impl Handler) {
    let Ok(Some(head)) = tokio::time::timeout(PATIENCE, read_head(&mut stream, MAX_HEAD)).await else { return };
    let (answer, head_only) = match parse(&head) {
        Ok((request, head_only)) => (handler.answer(request).await, head_only),
        Err(status) => {
            (Answer { status, content_type: "text/plain; charset=utf-8", head: "", body: Vec::new() }, false)
        }
    };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len(),
        answer.head,
    );
    let send = async {
        stream.write_all(head.as_bytes()).await?;
        if !head_only {
            stream.write_all(&answer.body).await?;
        }
        stream.shutdown().await
    };
    // A client that left got what it wanted.
    let _ = tokio::time::timeout(PATIENCE, send).await;
}

/// Answers requests until stopped; open ones are dropped then.
pub async fn serve(listener: TcpListener, handler: impl Handler, stop: CancellationToken) {
    let handler = std::sync::Arc::new(handler);
    let free = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = tokio::task::JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = free.clone().acquire_owned() => permit,
            () = stop.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let handler = handler.clone();
                open.spawn(async move {
                    let _permit = permit;
                    handle(stream, handler.as_ref()).await;
                });
            }
            // Out of files, for example.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Sends a body by PUT; `Err` says what went wrong.
pub(crate) async fn put(host: &str, path: &str, content_type: &str, body: &[u8]) -> Result<(), String> {
    let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let send = async {
        let mut stream =
            TcpStream::connect(&address).await.map_err(|error| format!("connecting to {address}: {error}"))?;
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: \
             close\r\n\r\n",
            body.len()
        );
        let failed = |error: std::io::Error| format!("sending to {address}: {error}");
        stream.write_all(head.as_bytes()).await.map_err(failed)?;
        stream.write_all(body).await.map_err(failed)?;
        let head = read_head(&mut stream, MAX_ANSWER).await.ok_or_else(|| format!("no answer from {address}"))?;
        let status = head.lines().next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
        if matches!(status, "200" | "202") { Ok(()) } else { Err(format!("{address} answered {status}")) }
    };
    tokio::time::timeout(PATIENCE, send).await.unwrap_or_else(|_| Err(format!("{address} did not answer in time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_requests() {
        let (request, head) = parse("GET /a?seconds=3&x HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        assert_eq!((request.path.as_str(), request.number("seconds"), head), ("/a", Some(3), false));
        assert_eq!((request.number("x"), request.host.as_str()), (None, "b"));
        let (request, _) = parse("GET /?a=b%20c%2f+%e&a=d HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((request.text("a").as_str(), request.text("z").as_str()), ("b c/ %e", ""));
        assert!(parse("HEAD / HTTP/1.0\r\n\r\n").unwrap().1);
        for bad in ["", "GET", "GET /", "POST / HTTP/1.1\r\n", "GET / HTTP/2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
