//! The host's end of a connection to a runtime: Runtime Host Protocol 5.1.0 over any stream of bytes.
//!
//! Both sides ask and answer on one stream. A call writes its frame at once if the stream takes it; what is left over
//! goes out in a task. The runtime is not trusted: each of the constants here bounds what it can make the node hold or
//! wait for. Source: `go/runtime/host/protocol/connection.go`.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use base_codec::Raw;
use base_prims::{Namespace, Version};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire_runtime::{
    Body, CONSENSUS_BACKEND, Message, MessageType, PROTOCOL_VERSION, error,
    frame::{self, FrameReader},
    runtime::{InfoRequest, InfoResponse},
};

use crate::api::{HostError, HostHandler, HostInfo};

/// Most bytes of a frame from a runtime, as with the reference.
pub const MAX_FRAME_BYTES: usize = frame::MAX_FRAME_BYTES;
/// Most bytes of a frame to a runtime; more would end its reader.
pub const MAX_SENT_FRAME_BYTES: usize = frame::MAX_RUNTIME_FRAME_BYTES;
/// Calls that may wait for answers at once. More are refused with [`HostError::Busy`].
pub const MAX_CALLS: usize = 4096;
/// Requests of the runtime that are served at once. More are answered with an error.
pub const MAX_REQUESTS: usize = 1024;
/// Bytes of the frames of requests that are served at once. More are answered with an error.
///
/// A list of keys may take 32 times its bytes when decoded, so this bounds memory to 2 GiB in the worst case.
pub const MAX_REQUEST_BYTES: usize = MAX_FRAME_BYTES;
/// Bytes of frames that wait to be written before calls wait too.
pub const MAX_QUEUED_BYTES: usize = 2 * MAX_SENT_FRAME_BYTES;
/// How long the runtime may take nothing of what is written to it before the connection is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request of the runtime waits for the handshake to be done.
pub const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for its answer, whatever its caller says.
pub const MAX_CALL_TIME: Duration = Duration::from_secs(600);
/// Frames of up to this many bytes are decoded by the task that reads them, longer ones beside it.
pub const INLINE_DECODE_BYTES: usize = 256 << 10;
/// Log lines about what a runtime does wrong, per connection.
const MAX_COMPLAINTS: usize = 32;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes that one permit of the output queue stands for.
const PERMIT_BYTES: usize = 1024;

type Answer = Result<Body, HostError>;

/// A call that waits.
struct Pending {
    request: Body,
    answer: oneshot::Sender<Answer>,
}

/// A frame to be written, with the room that it takes in the queue.
struct Queued {
    frame: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// The writing half, and what waits for it.
struct Output {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    queue: VecDeque<Queued>,
    /// Bytes of the first frame that are written.
    written: usize,
}

impl Output {
    /// Writes what the stream takes; ready when the queue is empty.
    fn poll_flush(&mut self, cx: &mut Context<'_>, progress: &AtomicU64) -> Poll<std::io::Result<()>> {
        while let Some(first) = self.queue.front() {
            let rest = first.frame.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.queue.pop_front();
                self.written = 0;
                continue;
            }
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    progress.fetch_add(1, Ordering::Relaxed);
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// What all tasks of a connection share.
struct Shared {
    runtime_id: Namespace,
    handler: Arc<dyn HostHandler>,
    output: Mutex<Output>,
    /// There is output that the stream did not take at once.
    output_waits: Notify,
    /// Counts writes, to tell a slow reader from one that does not read.
    progress: AtomicU64,
    room: Arc<Semaphore>,
    calls: Mutex<HashMap<u64, Pending>>,
    call_slots: Semaphore,
    next_id: AtomicU64,
    requests: AtomicUsize,
    request_bytes: AtomicUsize,
    ready: watch::Sender<bool>,
    info: Mutex<Option<InfoResponse>>,
    closed: CancellationToken,
    why_closed: Mutex<Option<String>>,
    complaints: AtomicUsize,
    refused: AtomicU64,
    initialized: AtomicBool,
}

impl Shared {
    /// Closes for a reason; the first one counts.
    fn close(&self, reason: impl Into<String>) {
        self.why_closed.lock().get_or_insert_with(|| reason.into());
        self.closed.cancel();
    }

    fn closed_error(&self) -> HostError {
        HostError::Closed(self.why_closed.lock().clone().unwrap_or_else(|| "closed".into()))
    }

    /// Logs what the runtime does wrong, a limited number of times.
    fn complain(&self, what: &str, detail: &str) {
        let count = self.complaints.fetch_add(1, Ordering::Relaxed);
        if count < MAX_COMPLAINTS {
            tracing::warn!(runtime_id = %self.runtime_id, detail, "{what}");
        } else if count == MAX_COMPLAINTS {
            tracing::warn!(runtime_id = %self.runtime_id, "more complaints about this connection are not logged");
        }
    }

    /// Queues a frame and writes what goes at once.
    fn push(&self, queued: Queued) {
        let mut output = self.output.lock();
        let idle = output.queue.is_empty();
        output.queue.push_back(queued);
        if !idle {
            return;
        }
        match output.poll_flush(&mut Context::from_waker(Waker::noop()), &self.progress) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(e)) => {
                drop(output);
                self.close(format!("cannot write: {e}"));
            }
            Poll::Pending => {
                drop(output);
                self.output_waits.notify_one();
            }
        }
    }

    /// Room in the queue for a frame.
    async fn room(&self, frame: &[u8]) -> Result<OwnedSemaphorePermit, HostError> {
        let room = Arc::clone(&self.room).acquire_many_owned(permits(frame));
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(self.closed_error()),
            permit = room => permit.map_err(|_| self.closed_error()),
        }
    }

    /// Answers a request that is not served. If even that does not fit the queue, the runtime floods without reading.
    fn refuse(&self, id: u64, error: wire_runtime::Error) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let Ok(frame) = frame::encode(&Message::response(id, Body::Error(error)), MAX_SENT_FRAME_BYTES) else {
            return;
        };
        match Arc::clone(&self.room).try_acquire_many_owned(permits(&frame)) {
            Ok(room) => self.push(Queued { frame, _room: room }),
            Err(_) => self.close("the runtime asks without reading the answers"),
        }
    }

    /// Waits for the handshake; `false` if it does not come.
    async fn is_ready(&self) -> bool {
        let mut ready = self.ready.subscribe();
        matches!(timeout(READY_TIMEOUT, ready.wait_for(|ready| *ready)).await, Ok(Ok(_)))
    }

    /// Serves one request.
    async fn serve(&self, id: u64, body: Body) {
        let answer: Body = if self.is_ready().await {
            self.handler.handle(body).await.into()
        } else {
            Body::Error(wire_runtime::Error::new(error::NOT_READY, "rhp: not ready"))
        };
        let frame = frame::encode(&Message::response(id, answer), MAX_SENT_FRAME_BYTES).or_else(|e| {
            let error = wire_runtime::Error::new(error::UNKNOWN, format!("answer does not fit: {e}"));
            frame::encode(&Message::response(id, Body::Error(error)), MAX_SENT_FRAME_BYTES)
        });
        if let Ok(frame) = frame
            && let Ok(room) = self.room(&frame).await
        {
            self.push(Queued { frame, _room: room });
        }
    }

    /// Takes room for a request being served; `None` if there is none.
    fn admit(self: &Arc<Self>, bytes: usize) -> Option<Admitted> {
        let admitted = Admitted { shared: Arc::clone(self), bytes };
        let count = self.requests.fetch_add(1, Ordering::AcqRel);
        let total = self.request_bytes.fetch_add(bytes, Ordering::AcqRel);
        (count < MAX_REQUESTS && (total.saturating_add(bytes) <= MAX_REQUEST_BYTES)).then_some(admitted)
    }

    /// Takes a message off the stream.
    fn take(self: &Arc<Self>, message: Message, bytes: usize, tasks: &TaskTracker) {
        match message.message_type {
            MessageType::REQUEST => {
                if !is_host_request(&message.body) {
                    self.refuse(message.id, wire_runtime::Error::method_not_supported());
                    return;
                }
                let Some(admitted) = self.admit(bytes) else {
                    self.complain("runtime asks for too much at once", message.body.name());
                    self.refuse(message.id, wire_runtime::Error::new(error::UNKNOWN, "too many requests at once"));
                    return;
                };
                let shared = Arc::clone(self);
                tasks.spawn(async move {
                    let closed = shared.closed.clone();
                    tokio::select! {
                        biased;
                        () = closed.cancelled() => {}
                        () = shared.serve(message.id, message.body) => {}
                    }
                    drop(admitted);
                });
            }
            MessageType::RESPONSE => {
                let Some(pending) = self.calls.lock().remove(&message.id) else {
                    self.complain("received a response but no request with id is outstanding", message.body.name());
                    return;
                };
                let answer = check_answer(&pending.request, message.body);
                // The caller may have gone away.
                let _ = pending.answer.send(answer);
            }
            _ => self.complain("received a malformed message from the runtime, ignoring", message.body.name()),
        }
    }
}

fn permits(frame: &[u8]) -> u32 {
    u32::try_from(frame.len().div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

/// A host only serves what is addressed to hosts.
fn is_host_request(body: &Body) -> bool {
    body.is_request() && body.name().starts_with("Host")
}

fn check_answer(request: &Body, answer: Body) -> Answer {
    match answer {
        Body::Error(error) => Err(HostError::Runtime(error)),
        answer if answer.answers(request) => Ok(answer),
        answer => Err(HostError::UnexpectedAnswer { request: request.name().into(), answer: answer.name().to_owned() }),
    }
}

/// Room of a request being served; given back when dropped.
struct Admitted {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.requests.fetch_sub(1, Ordering::AcqRel);
        self.shared.request_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Removes a call that was given up.
struct CallGuard<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.shared.calls.lock().remove(&self.id);
    }
}

/// A connection to a runtime. It is closed when dropped.
pub struct Connection {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl Connection {
    /// Takes over the two halves of a stream. Must be called in a tokio runtime.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        runtime_id: Namespace,
        handler: Arc<dyn HostHandler>,
    ) -> Self {
        let shared = Arc::new(Shared {
            runtime_id,
            handler,
            output: Mutex::new(Output { stream: Box::new(writer), queue: VecDeque::new(), written: 0 }),
            output_waits: Notify::new(),
            progress: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES / PERMIT_BYTES)),
            calls: Mutex::new(HashMap::new()),
            call_slots: Semaphore::new(MAX_CALLS),
            next_id: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            ready: watch::Sender::new(false),
            info: Mutex::new(None),
            closed: CancellationToken::new(),
            why_closed: Mutex::new(None),
            complaints: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            initialized: AtomicBool::new(false),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(read(Arc::clone(&shared), reader, tasks.clone()));
        tasks.spawn(write(Arc::clone(&shared)));
        Self { shared, tasks }
    }

    /// Shakes hands: tells the runtime what it is to be, and learns its versions. To be called once, before anything else.
    ///
    /// # Errors
    /// If the runtime does not answer, or speaks another major version of the protocol.
    pub async fn init(
        &self,
        host: &HostInfo,
        local_config: std::collections::BTreeMap<String, Raw>,
    ) -> Result<InfoResponse, HostError> {
        if self.shared.initialized.swap(true, Ordering::AcqRel) {
            return Err(HostError::Incompatible("rhp: connection already initialized".into()));
        }
        let request = InfoRequest {
            runtime_id: self.shared.runtime_id,
            consensus_backend: CONSENSUS_BACKEND.into(),
            consensus_protocol_version: host.consensus_protocol_version,
            consensus_chain_context: host.consensus_chain_context.clone(),
            local_config,
        };
        let Body::RuntimeInfoResponse(info) = self.exchange(Body::RuntimeInfoRequest(request)).await? else {
            return Err(HostError::MalformedAnswer("rhp: unexpected response to RuntimeInfoRequest".into()));
        };
        if info.protocol_version.major != PROTOCOL_VERSION.major {
            return Err(HostError::Incompatible(format!(
                "rhp: incompatible protocol version (expected: {PROTOCOL_VERSION} got: {})",
                info.protocol_version
            )));
        }
        *self.shared.info.lock() = Some(info.clone());
        self.shared.ready.send_replace(true);
        Ok(info)
    }

    /// What the runtime said in the handshake.
    pub fn info(&self) -> Option<InfoResponse> {
        self.shared.info.lock().clone()
    }

    /// The version that the runtime reported.
    pub fn version(&self) -> Option<Version> {
        self.shared.info.lock().as_ref().map(|info| info.runtime_version)
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// If the handshake is not done, the connection ends, there are too many calls, or the runtime refuses.
    pub async fn call(&self, body: Body) -> Result<Body, HostError> {
        if !*self.shared.ready.borrow() {
            return Err(HostError::NotReady);
        }
        self.exchange(body).await
    }

    async fn exchange(&self, request: Body) -> Answer {
        let shared = &*self.shared;
        if shared.closed.is_cancelled() {
            return Err(shared.closed_error());
        }
        let _slot = shared.call_slots.try_acquire().map_err(|_| HostError::Busy { limit: MAX_CALLS })?;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let message = Message::request(id, request);
        let frame = frame::encode(&message, MAX_SENT_FRAME_BYTES).map_err(|e| HostError::TooLarge(e.to_string()))?;
        let request = match message.body {
            // Kept only for its name.
            Body::RuntimeExecuteTxBatchRequest(_) => Body::RuntimeExecuteTxBatchRequest(Box::default()),
            Body::RuntimeCheckTxBatchRequest(_) => Body::RuntimeCheckTxBatchRequest(Box::default()),
            other => other,
        };
        let exchange = async {
            let room = shared.room(&frame).await?;
            let (sender, receiver) = oneshot::channel();
            shared.calls.lock().insert(id, Pending { request, answer: sender });
            let _guard = CallGuard { shared, id };
            // The reader empties the table once, after it closed.
            if shared.closed.is_cancelled() {
                return Err(shared.closed_error());
            }
            shared.push(Queued { frame, _room: room });
            receiver.await.unwrap_or_else(|_| Err(shared.closed_error()))
        };
        timeout(MAX_CALL_TIME, exchange)
            .await
            .unwrap_or(Err(HostError::Timeout { what: "a call to the runtime", after: MAX_CALL_TIME }))
    }

    /// Ends the connection: calls fail, requests being served are dropped.
    pub fn close(&self) {
        self.shared.close("closed by the host");
    }

    /// Waits until the connection is closed, by whomever; says why.
    pub async fn closed(&self) -> String {
        self.shared.closed.cancelled().await;
        self.shared.why_closed.lock().clone().unwrap_or_default()
    }

    /// Why the connection is closed, if it is.
    pub fn why_closed(&self) -> Option<String> {
        self.shared.why_closed.lock().clone()
    }

    /// Closes and waits for all tasks of the connection.
    pub async fn shut_down(&self) {
        self.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Requests of the runtime that were refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
        self.tasks.close();
    }
}

/// Reads until the stream ends or is malformed.
async fn read(shared: Arc<Shared>, mut stream: impl AsyncRead + Send + Unpin, tasks: TaskTracker) {
    let closed = shared.closed.clone();
    let reason = tokio::select! {
        biased;
        () = closed.cancelled() => None,
        reason = read_frames(&shared, &mut stream, &tasks) => Some(reason),
    };
    if let Some(reason) = reason {
        shared.close(reason);
    }
    shared.calls.lock().clear();
}

async fn read_frames(shared: &Arc<Shared>, stream: &mut (impl AsyncRead + Unpin), tasks: &TaskTracker) -> String {
    let mut reader = FrameReader::new(MAX_FRAME_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) if reader.pending() > 0 => return "the runtime hung up within a frame".into(),
            Ok(0) => return "the runtime hung up".into(),
            Ok(count) => count,
            Err(e) => return format!("cannot read: {e}"),
        };
        reader.push(buffer.get(..count).unwrap_or_default());
        loop {
            let (message, bytes) = match reader.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) if frame.len() <= INLINE_DECODE_BYTES => (frame::decode(frame), frame.len()),
                Ok(Some(frame)) => {
                    let frame = frame.to_vec();
                    let bytes = frame.len();
                    match tokio::task::spawn_blocking(move || frame::decode(&frame)).await {
                        Ok(message) => (message, bytes),
                        Err(_) => return "the decoder failed".into(),
                    }
                }
                Err(e) => return e.to_string(),
            };
            match message {
                Ok(message) => shared.take(message, bytes, tasks),
                Err(e) => return e.to_string(),
            }
        }
    }
}

/// Writes what the stream did not take at once, and closes it in the end.
async fn write(shared: Arc<Shared>) {
    write_frames(&shared).await;
    let mut output = shared.output.lock();
    output.stream = Box::new(tokio::io::sink());
    output.queue.clear();
}

async fn write_frames(shared: &Shared) {
    loop {
        tokio::select! {
            biased;
            () = shared.closed.cancelled() => return,
            () = shared.output_waits.notified() => {}
        }
        loop {
            let before = shared.progress.load(Ordering::Relaxed);
            let flushed = std::future::poll_fn(|cx| shared.output.lock().poll_flush(cx, &shared.progress));
            let outcome = tokio::select! {
                biased;
                () = shared.closed.cancelled() => return,
                outcome = timeout(WRITE_TIMEOUT, flushed) => outcome,
            };
            match outcome {
                Ok(Ok(())) => break,
                Ok(Err(e)) => return shared.close(format!("cannot write: {e}")),
                Err(_) if shared.progress.load(Ordering::Relaxed) != before => {}
                Err(_) => return shared.close(format!("the runtime read nothing for {WRITE_TIMEOUT:?}")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
