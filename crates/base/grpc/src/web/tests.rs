//! Raw HTTP requests, as browsers send them.

use super::*;
use crate::message::Cbor;
use crate::router::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PAGE: &str = "https://app.example";

/// Serves two methods of which one is offered; answers a request and reads until the server ends the connection.
async fn exchange(request: Vec<u8>) -> (String, Vec<u8>) {
    let mut router = Router::new();
    router.unary("test.Echo", "Echo", |Cbor(text): Cbor<String>| async move {
        if text == "fail" { Err(RpcError::service("test", 7, "failed")) } else { Ok(Cbor(text)) }
    });
    router.unary("test.Echo", "Secret", |(): ()| async move { Ok(()) });
    router.streaming("test.Echo", "Count", |Cbor(n): Cbor<u64>| async move {
        Ok(Box::pin(futures_util::stream::iter((0..n).map(|n| Ok(Cbor(n))))) as BoxStream<Cbor<u64>>)
    });
    let methods = ["test.Echo/Echo", "test.Echo/Count"].map(str::to_owned).into();
    let web = Web { origins: vec![PAGE.to_owned()], methods };
    let stop = CancellationToken::new();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_web(listener, Arc::new(router), Arc::new(web), stop.clone()));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    stop.cancel();
    server.await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    (head, unchunk(&answer[end + 4..]))
}

/// The chunks of a body put together.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        whole.extend(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    whole
}

fn post(path: &str, content_type: &str, origin: Option<&str>, body: &[u8]) -> Vec<u8> {
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{origin}Content-Type: {content_type}\r\n\
         X-Grpc-Web: 1\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Flag, length and bytes of one message.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

const HELLO: &[u8] = b"\x65hello";

#[tokio::test]
async fn a_page_calls_a_method() {
    let request = post("test.Echo/Echo", "application/grpc-web+proto", Some(PAGE), &message(HELLO));
    let (head, body) = exchange(request).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/grpc-web+proto"), "{head}");
    assert!(head.contains("access-control-allow-origin: https://app.example"), "{head}");
    assert!(head.contains("vary: origin"), "{head}");
    let expected = [message(HELLO), b"\x80\0\0\0\x10grpc-status: 0\r\n".to_vec()].concat();
    assert_eq!(body, expected);
}

#[tokio::test]
async fn text_is_base64_both_ways() {
    let body = STANDARD.encode(message(b"\x02"));
    let (head, body) = exchange(post("test.Echo/Count", "application/grpc-web-text", None, body.as_bytes())).await;
    assert!(head.contains("content-type: application/grpc-web-text"), "{head}");
    // Each part is encoded by itself, with its padding.
    let text = String::from_utf8(body).unwrap();
    let mut decoded = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let padding =
            rest.find('=').map_or(rest.len(), |at| at + rest[at..].bytes().take_while(|b| *b == b'=').count());
        decoded.extend(STANDARD.decode(&rest[..padding]).unwrap());
        rest = &rest[padding..];
    }
    let expected = [message(b"\x00"), message(b"\x01"), b"\x80\0\0\0\x10grpc-status: 0\r\n".to_vec()].concat();
    assert_eq!(decoded, expected);
}

#[tokio::test]
async fn errors_are_trailers() {
    let (head, body) =
        exchange(post("test.Echo/Echo", "application/grpc-web", Some(PAGE), &message(b"\x64fail"))).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(!head.contains("\ngrpc-status"), "{head}");
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(body[0] == TRAILERS && text.contains("grpc-status: 2\r\n"), "{text}");
    assert!(text.contains("grpc-message: failed\r\n") && text.contains("grpc-status-details-bin: "), "{text}");
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    // A method that there is, and one that there is not.
    for name in ["test.Echo/Secret", "test.Echo/Nothing"] {
        let (_, body) = exchange(post(name, "application/grpc-web", Some(PAGE), &message(b""))).await;
        assert!(String::from_utf8_lossy(&body).contains("grpc-status: 7\r\n"), "{name}");
    }
    // A page that may not call, before it even asks.
    for (origin, status) in [("https://evil.example", "403"), ("null", "403"), ("https://app.example.evil", "403")] {
        let (head, _) = exchange(post("test.Echo/Echo", "application/grpc-web", Some(origin), &message(HELLO))).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(!head.contains("access-control-allow-origin"), "{head}");
    }
    // What a form can send without asking.
    let (head, _) = exchange(post("test.Echo/Echo", "text/plain", None, &message(HELLO))).await;
    assert!(head.starts_with("http/1.1 415"), "{head}");
    let (head, _) = exchange(b"GET /test.Echo/Echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()).await;
    assert!(head.starts_with("http/1.1 405"), "{head}");
    let (head, _) = exchange(post("test.Echo/Echo", "application/grpc-web-text", None, b"***")).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
}

#[tokio::test]
async fn requests_are_bounded() {
    let long = message(&vec![0; MAX_WEB_REQUEST_BYTES]);
    let (head, _) = exchange(post("test.Echo/Echo", "application/grpc-web", None, &long)).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
}

#[tokio::test]
async fn browsers_ask_first() {
    let ask = |origin: &str| {
        format!(
            "OPTIONS /test.Echo/Echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-grpc-web\r\n\r\n"
        )
        .into_bytes()
    };
    let (head, body) = exchange(ask(PAGE)).await;
    assert!(head.starts_with("http/1.1 204") && body.is_empty(), "{head}");
    for line in [
        "access-control-allow-origin: https://app.example",
        "access-control-allow-methods: post",
        "access-control-allow-headers: content-type,x-grpc-web,x-user-agent,grpc-timeout",
        "access-control-max-age: 86400",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let (head, _) = exchange(ask("https://evil.example")).await;
    assert!(head.starts_with("http/1.1 403") && !head.contains("access-control"), "{head}");
}
