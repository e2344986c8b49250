//! gRPC-Web: the same methods for web pages, over HTTP/1.1, with CORS and a list of what pages may call.
//!
//! Reference: none; the format is that of gRPC's `PROTOCOL-WEB.md`. Answers are the bytes that gRPC has, followed by a
//! frame with the trailers; with `application/grpc-web-text` both ways in base64.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use crate::error::{Code, RpcError};
use crate::router::{Caller, Router};
use crate::server::{Accepted, Listener, each_connection};

/// Largest request of a page.
pub(crate) const MAX_WEB_REQUEST_BYTES: usize = 4 << 20;
/// How long a client may take for the head of a request, and for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long browsers may remember what they were told about an origin, in seconds.
const MAX_AGE: &str = "86400";
/// Header fields that pages may send.
const ALLOWED_HEADERS: &str = "content-type,x-grpc-web,x-user-agent,grpc-timeout";
/// Header fields that pages may read.
const EXPOSED_HEADERS: &str = "grpc-status,grpc-message,grpc-status-details-bin";
/// Any page at all.
const ANY_ORIGIN: &str = "*";
/// Flag of the frame with the trailers.
const TRAILERS: u8 = 0x80;
const CONTENT_TYPE: &str = "application/grpc-web";
const CONTENT_TYPE_TEXT: &str = "application/grpc-web-text";

/// What web pages may do.
#[derive(Debug, Clone, Default)]
pub struct Web {
    /// Origins that may call, such as `https://app.example`; `*` for any.
    pub origins: Vec<String>,
    /// Methods that may be called, by their full names: `oasis-core.Consensus/GetStatus`.
    pub methods: BTreeSet<String>,
}

/// Serves web pages until stopped.
pub async fn serve_web(listener: Listener, router: Arc<Router>, web: Arc<Web>, stop: CancellationToken) {
    each_connection(listener, stop, |accepted, stop| connection(accepted, router.clone(), web.clone(), stop)).await;
}

async fn connection(accepted: Accepted, router: Arc<Router>, web: Arc<Web>, stop: CancellationToken) {
    let Ok((stream, caller)) = accepted.open().await else { return };
    let service = service_fn(move |request| {
        let (router, web, caller) = (router.clone(), web.clone(), caller.clone());
        async move { Ok::<_, Infallible>(web.answer(request, &router, caller).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(module = "grpc/web", err = %error, "connection ended");
    }
}

fn plain(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = status;
    response
}

impl Web {
    /// Which origin the answer is for; an error if the request's may not call. Requests of programs have none.
    fn origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, StatusCode> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        let known = |allowed: &String| allowed == ANY_ORIGIN || allowed.as_bytes() == origin.as_bytes();
        if self.origins.iter().any(known) { Ok(Some(origin.clone())) } else { Err(StatusCode::FORBIDDEN) }
    }

    async fn answer(&self, request: Request<Incoming>, router: &Router, caller: Caller) -> Response<Answer> {
        let origin = match self.origin(request.headers()) {
            Ok(origin) => origin,
            Err(status) => return plain(status),
        };
        let mut response = match *request.method() {
            Method::OPTIONS => preflight(request.headers(), origin.is_some()),
            Method::POST => self.call(request, router, caller).await,
            _ => plain(StatusCode::METHOD_NOT_ALLOWED),
        };
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
        response
    }

    async fn call(&self, request: Request<Incoming>, router: &Router, caller: Caller) -> Response<Answer> {
        let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
        let kind = content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_text = kind.starts_with(CONTENT_TYPE_TEXT);
        let Some(content_type) = content_type.clone().filter(|_| kind.starts_with(CONTENT_TYPE)) else {
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        };
        let name = request.uri().path().trim_start_matches('/').to_owned();
        let inner = if self.methods.contains(&name) {
            let body = match tokio::time::timeout(REQUEST_TIMEOUT, read(request.into_body(), is_text)).await {
                Ok(Ok(body)) => body,
                Ok(Err(status)) => return plain(status),
                Err(_) => return plain(StatusCode::REQUEST_TIMEOUT),
            };
            let mut inner = Request::new(Whole(Some(body)));
            *inner.method_mut() = Method::POST;
            *inner.uri_mut() = format!("/{name}").parse().unwrap_or_default();
            inner.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let Ok(answer) = router.answer(inner, caller).await;
            answer
        } else {
            let text = format!("method {name} is not offered to web pages");
            RpcError::with(Code::PermissionDenied, text).into_status().into_http()
        };
        let (mut parts, body) = inner.into_parts();
        parts.headers.insert(header::CONTENT_TYPE, content_type);
        // An answer that is an error has its trailers in front.
        let early: HeaderMap = ["grpc-status", "grpc-message", "grpc-status-details-bin"]
            .into_iter()
            .filter_map(|name| Some((HeaderName::from_static(name), parts.headers.remove(name)?)))
            .collect();
        let early = (!early.is_empty()).then_some(early);
        Response::from_parts(parts, Answer { body: Some(body), early, is_text })
    }
}

fn preflight(headers: &HeaderMap, allowed: bool) -> Response<Answer> {
    let mut response = plain(StatusCode::NO_CONTENT);
    if allowed && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    }
    response
}

async fn read(mut body: Incoming, is_text: bool) -> Result<Bytes, StatusCode> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > MAX_WEB_REQUEST_BYTES {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        bytes.put(data);
    }
    if !is_text {
        return Ok(bytes.freeze());
    }
    STANDARD.decode(&bytes).map(Bytes::from).map_err(|_| StatusCode::BAD_REQUEST)
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The body of an answer, whose trailers become a last frame.
struct Answer {
    body: Option<tonic::body::Body>,
    /// Trailers that came in front.
    early: Option<HeaderMap>,
    is_text: bool,
}

impl Answer {
    fn empty() -> Self {
        Self { body: None, early: None, is_text: false }
    }

    fn encoded(&self, bytes: Bytes) -> Bytes {
        if self.is_text { STANDARD.encode(bytes).into() } else { bytes }
    }
}

/// The last frame: the trailers as header fields of HTTP/1.
fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        text.put(name.as_str().as_bytes());
        text.put(&b": "[..]);
        text.put(value.as_bytes());
        text.put(&b"\r\n"[..]);
    }
    let mut frame = BytesMut::with_capacity(text.len() + 5);
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    frame.put(text);
    frame.freeze()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                self.body = None;
                let early = self.early.take().map(|trailers| self.encoded(trailers_frame(&trailers)));
                return Poll::Ready(early.map(|bytes| Ok(Frame::data(bytes))));
            }
        };
        let bytes = match frame.into_data() {
            Ok(data) => data,
            Err(other) => {
                self.body = None;
                trailers_frame(&other.into_trailers().unwrap_or_default())
            }
        };
        Poll::Ready(Some(Ok(Frame::data(self.encoded(bytes)))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.body.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }
}

#[cfg(test)]
mod tests;
