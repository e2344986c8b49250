//! Which method a path names, and how it is called.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use base_metrics::table;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Code, Request, Response, Status};

use crate::codec::{MAX_MESSAGE_BYTES, Opaque};
use crate::error::RpcError;
use crate::message::{Argument, Reply};

/// A boxed stream of answers.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, RpcError>> + Send>>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Unary = Arc<dyn Fn(Bytes, Caller) -> BoxFuture<Result<Bytes, RpcError>> + Send + Sync>;
type Streaming = Arc<dyn Fn(Bytes, Caller) -> BoxFuture<Result<BoxStream<Bytes>, RpcError>> + Send + Sync>;

type Guard = Arc<dyn Fn(&str, &Caller) -> Result<(), RpcError> + Send + Sync>;

/// Who calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The Ed25519 key of the client's certificate, if the connection has one.
    pub tls_key: Option<[u8; 32]>,
}

#[derive(Clone)]
enum Method {
    Unary(Unary),
    Streaming(Streaming),
}

/// Methods by path.
#[derive(Clone, Default)]
pub struct Router {
    methods: HashMap<String, Method>,
    services: BTreeSet<String>,
    /// Refuses a call before its argument is looked at.
    guard: Option<Guard>,
    /// Answers in this one's place as soon as it is there.
    later: Option<watch::Receiver<Option<Arc<Router>>>>,
}

impl Router {
    /// A router without methods.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method with one answer. `service` is the full name, such as `oasis-core.Consensus`.
    pub fn unary<A, R, F, Fut>(&mut self, service: &str, method: &str, handler: F) -> &mut Self
    where
        A: Argument + Send + 'static,
        R: Reply + Send + 'static,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, RpcError>> + Send + 'static,
    {
        let handler = move |bytes: Bytes, _: Caller| -> BoxFuture<Result<Bytes, RpcError>> {
            match A::from_message(&bytes) {
                Ok(argument) => {
                    let answer = handler(argument);
                    Box::pin(async move { answer.await.map(|answer| answer.to_message()) })
                }
                Err(error) => Box::pin(async move { Err(error) }),
            }
        };
        self.add(service, method, Method::Unary(Arc::new(handler)))
    }

    /// Whether there is a method of that full name (`service/method`).
    pub fn has(&self, name: &str) -> bool {
        self.methods.contains_key(name)
    }

    /// Adds a method with a stream of answers.
    pub fn streaming<A, R, F, Fut>(&mut self, service: &str, method: &str, handler: F) -> &mut Self
    where
        A: Argument + Send + 'static,
        R: Reply + Send + 'static,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<BoxStream<R>, RpcError>> + Send + 'static,
    {
        let handler = move |bytes: Bytes, _: Caller| -> BoxFuture<Result<BoxStream<Bytes>, RpcError>> {
            match A::from_message(&bytes) {
                Ok(argument) => {
                    let answers = handler(argument);
                    Box::pin(async move {
                        let answers = answers.await?;
                        let encoded = answers.map(|answer| answer.map(|answer| answer.to_message()));
                        Ok(Box::pin(encoded) as BoxStream<Bytes>)
                    })
                }
                Err(error) => Box::pin(async move { Err(error) }),
            }
        };
        self.add(service, method, Method::Streaming(Arc::new(handler)))
    }

    /// Asks `guard` about each call before anything else: path (`service/method`) and caller.
    pub fn guard(
        &mut self,
        guard: impl Fn(&str, &Caller) -> Result<(), RpcError> + Send + Sync + 'static,
    ) -> &mut Self {
        self.guard = Some(Arc::new(guard));
        self
    }

    /// Has another router answer in this one's place as soon as it is there. Until then calls of methods that this one
    /// does not have wait for it; they fail if it never comes.
    pub fn until(&mut self, later: watch::Receiver<Option<Arc<Self>>>) -> &mut Self {
        self.later = Some(later);
        self
    }

    /// The router that answers a call now.
    async fn in_charge(&self, path: &str) -> Result<Option<Arc<Self>>, RpcError> {
        let Some(later) = &self.later else { return Ok(None) };
        let now = later.borrow().clone();
        if now.is_some() || self.has(path.strip_prefix('/').unwrap_or(path)) {
            return Ok(now);
        }
        let gone = |_| RpcError::with(Code::Unavailable, "node is shutting down");
        later.clone().wait_for(Option::is_some).await.map(|router| router.clone()).map_err(gone)
    }

    /// Adds all methods of another router.
    pub fn merge(&mut self, other: Self) -> &mut Self {
        self.methods.extend(other.methods);
        self.services.extend(other.services);
        self
    }

    /// Full names of all methods, sorted.
    pub fn methods(&self) -> Vec<String> {
        let mut names: Vec<_> = self.methods.keys().cloned().collect();
        names.sort();
        names
    }

    fn add(&mut self, service: &str, method: &str, call: Method) -> &mut Self {
        self.services.insert(service.to_owned());
        self.methods.insert(format!("{service}/{method}"), call);
        self
    }

    fn find(&self, path: &str, caller: &Caller) -> Result<Method, RpcError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let unimplemented = |message| RpcError::with(Code::Unimplemented, message);
        let Some((service, method)) = path.rsplit_once('/') else {
            return Err(unimplemented(format!("malformed method name: {path:?}")));
        };
        if !self.services.contains(service) {
            return Err(unimplemented(format!("unknown service {service}")));
        }
        let Some(call) = self.methods.get(path) else {
            return Err(unimplemented(format!("unknown method {method} for service {service}")));
        };
        if let Some(guard) = &self.guard {
            guard(path, caller)?;
        }
        Ok(call.clone())
    }

    /// Answers one HTTP request.
    pub(crate) async fn answer<B>(
        &self,
        request: http::Request<B>,
        caller: Caller,
    ) -> Result<http::Response<Body>, Infallible>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
        let Some(content_type) = content_type.filter(|value| value.as_bytes().starts_with(b"application/grpc")) else {
            let mut response = http::Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Ok(response);
        };
        let mut grpc =
            Grpc::new(Opaque).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
        let name = request.uri().path().to_owned();
        let found = match self.in_charge(&name).await {
            Ok(later) => later.as_deref().unwrap_or(self).find(&name, &caller),
            Err(error) => Err(error),
        };
        if found.is_ok() {
            table::GRPC_SERVER_CALLS.with(&[&name]).inc();
        }
        let mut response = match found {
            Ok(Method::Unary(call)) => grpc.unary(UnaryCall(call, caller, name), request).await,
            Ok(Method::Streaming(call)) => grpc.server_streaming(StreamingCall(call, caller, name), request).await,
            Err(error) => error.into_status().into_http(),
        };
        // The reference echoes whatever flavour of gRPC the client named.
        let content_type = HeaderValue::from_bytes(content_type.as_bytes()).unwrap_or(content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        Ok(response)
    }
}

/// A handler, who calls it, and the name that its measures go by.
struct UnaryCall(Unary, Caller, String);

impl tower_service::Service<Request<Bytes>> for UnaryCall {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = BoxFuture<Result<Response<Bytes>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = (self.0)(request.into_inner(), self.1.clone());
        let latency = table::GRPC_SERVER_LATENCY.with(&[&self.2]);
        Box::pin(async move {
            let began = Instant::now();
            let answer = answer.await;
            latency.observe_time(began.elapsed());
            answer.map(Response::new).map_err(RpcError::into_status)
        })
    }
}

/// The same with a stream of answers.
struct StreamingCall(Streaming, Caller, String);

type StatusStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl tower_service::Service<Request<Bytes>> for StreamingCall {
    type Response = Response<StatusStream>;
    type Error = Status;
    type Future = BoxFuture<Result<Response<StatusStream>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answers = (self.0)(request.into_inner(), self.1.clone());
        let writes = table::GRPC_SERVER_STREAM_WRITES.with(&[&self.2]);
        Box::pin(async move {
            let answers = answers.await.map_err(RpcError::into_status)?;
            let answers = answers.map(move |answer| {
                writes.inc();
                answer.map_err(RpcError::into_status)
            });
            Ok(Response::new(Box::pin(answers) as StatusStream))
        })
    }
}

/// That the services above are what the server wants.
const _: fn() = || {
    fn unary<T: UnaryService<Bytes>>() {}
    fn streaming<T: ServerStreamingService<Bytes>>() {}
    unary::<UnaryCall>();
    streaming::<StreamingCall>();
};
