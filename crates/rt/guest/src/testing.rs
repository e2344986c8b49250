//! A host in the same process, for tests of ParaTimes: it sends what a test wants and answers as a test says.

use std::{
    collections::HashMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use wire_runtime::{Body, CONSENSUS_BACKEND, Error as WireError, Message, MessageType, frame, runtime::InfoRequest};

use crate::{Config, End, Init, serve};

/// How long a test waits for an answer.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers requests of the runtime.
pub type Answers = Box<dyn Fn(&Body) -> Result<Body, WireError> + Send + Sync>;

#[derive(Default)]
struct Waiting {
    next_id: u64,
    open: HashMap<u64, SyncSender<Body>>,
}

/// A host over a pair of sockets. Dropping it closes the connection.
pub struct TestHost {
    stream: UnixStream,
    waiting: Arc<Mutex<Waiting>>,
    asked: Arc<Mutex<Vec<Body>>>,
    received: Arc<AtomicUsize>,
    end: Option<Receiver<End>>,
}

impl std::fmt::Debug for TestHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestHost").finish_non_exhaustive()
    }
}

impl TestHost {
    /// Starts a runtime and a host for it. The handshake is the test's to do.
    ///
    /// # Errors
    /// If there are no sockets or threads.
    pub fn start(config: Config, init: Init, answers: Answers) -> std::io::Result<Self> {
        let (host, runtime) = UnixStream::pair()?;
        let (ended, end) = sync_channel(1);
        let reader = runtime.try_clone()?;
        thread::Builder::new().name("runtime".into()).spawn(move || {
            let sent = ended.send(serve(Box::new(reader), Box::new(runtime), config, init));
            drop(sent);
        })?;
        let test_host = Self {
            stream: host,
            waiting: Arc::default(),
            asked: Arc::default(),
            received: Arc::default(),
            end: Some(end),
        };
        let reader = test_host.stream.try_clone()?;
        let writer = test_host.stream.try_clone()?;
        let (waiting, asked) = (Arc::clone(&test_host.waiting), Arc::clone(&test_host.asked));
        let received = Arc::clone(&test_host.received);
        thread::Builder::new().name("host".into()).spawn(move || {
            read_all(reader, writer, &waiting, &asked, &received, Arc::new(answers));
            waiting.lock().open.clear();
        })?;
        Ok(test_host)
    }

    /// The handshake that hosts usually make.
    pub fn info(id: base_prims::Namespace) -> Body {
        Body::RuntimeInfoRequest(InfoRequest {
            runtime_id: id,
            consensus_backend: CONSENSUS_BACKEND.to_owned(),
            consensus_chain_context: "00".repeat(32),
            ..InfoRequest::default()
        })
    }

    /// Sends a request without waiting for its answer, which comes through the receiver.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn send(&self, body: Body) -> std::io::Result<Receiver<Body>> {
        let (sender, receiver) = sync_channel(1);
        let id = {
            let mut waiting = self.waiting.lock();
            waiting.next_id += 1;
            let id = waiting.next_id - 1;
            waiting.open.insert(id, sender);
            id
        };
        let message = Message::request(id, body);
        let bytes = frame::encode(&message, frame::MAX_RUNTIME_FRAME_BYTES).map_err(std::io::Error::other)?;
        self.raw(&bytes)?;
        Ok(receiver)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Body::Error`] as an error; another text if there is no answer.
    pub fn call(&self, body: Body) -> Result<Body, WireError> {
        let none = |e: &dyn ToString| WireError { module: "test".into(), code: 1, message: e.to_string() };
        let receiver = self.send(body).map_err(|e| none(&e))?;
        receiver.recv_timeout(TEST_TIMEOUT).map_err(|e| none(&e))?.into_result()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<()> {
        let _order = self.waiting.lock();
        (&self.stream).write_all(bytes)
    }

    /// What the runtime asked so far.
    pub fn asked(&self) -> Vec<Body> {
        self.asked.lock().clone()
    }

    /// How many frames came from the runtime so far.
    pub fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }

    /// Closes the connection and waits for the runtime to end.
    ///
    /// # Errors
    /// If it does not.
    pub fn finish(mut self) -> Result<End, std::sync::mpsc::RecvTimeoutError> {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
        match self.end.take() {
            Some(end) => end.recv_timeout(TEST_TIMEOUT),
            None => Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
        }
    }

    /// Waits for the runtime to end by itself.
    ///
    /// # Errors
    /// If it does not.
    pub fn ended(&self) -> Result<End, std::sync::mpsc::RecvTimeoutError> {
        match &self.end {
            Some(end) => end.recv_timeout(TEST_TIMEOUT),
            None => Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
        }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

/// How long a replay waits for a request that the recorded runtime made before it goes on without it.
const REQUEST_WAIT: Duration = Duration::from_millis(300);
/// How long a replay waits for what a request of the host leads to.
const REACTION_WAIT: Duration = Duration::from_secs(2);
/// How long a replay waits for an answer before it answers requests that the recorded runtime did not make then.
const ANSWER_WAIT: Duration = Duration::from_millis(50);

/// A request of the runtime that waits for its answer.
type Asked = (Body, SyncSender<Body>);

/// What came of a replay.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Each request of the host with the recorded answer and this runtime's.
    pub calls: Vec<(Body, Body, Body)>,
    /// How many requests the runtime made that the recorded one made at the same place.
    pub requests: usize,
    /// Requests of the recorded runtime that this one did not make, or made later.
    pub missing: Vec<Body>,
    /// Requests that this runtime made elsewhere than the recorded one, or that one never made.
    pub others: Vec<Body>,
}

/// Has recorded traffic again with another runtime, in the recorded order: a frame of the host is sent when everything
/// before it has happened. `frames` are frames and whether the host sent them; `answers` is asked where the recorded
/// runtime asked nothing, with the place in the recording.
///
/// # Errors
/// If the recording is malformed, or the runtime does not answer.
pub fn replay(
    frames: impl IntoIterator<Item = (bool, Vec<u8>)>,
    config: Config,
    init: Init,
    answers: impl Fn(&Body, usize) -> Result<Body, WireError>,
) -> Result<Replayed, crate::Error> {
    let inbox = Arc::new(Mutex::new(Vec::<Asked>::new()));
    let into = Arc::clone(&inbox);
    let ask: Answers = Box::new(move |request| {
        let (sender, receiver) = sync_channel(1);
        into.lock().push((request.clone(), sender));
        match receiver.recv_timeout(TEST_TIMEOUT) {
            Ok(answer) => answer.into_result(),
            Err(error) => Err(WireError { module: "replay".into(), code: 1, message: error.to_string() }),
        }
    });
    let host = TestHost::start(config, init, ask).map_err(crate::Error::other)?;
    let (mut calls, mut asked, mut out) = (HashMap::new(), HashMap::new(), Replayed::default());
    for (place, (from_host, frame)) in frames.into_iter().enumerate() {
        let Message { id, message_type, body } = frame::decode(&frame)?;
        match (from_host, message_type == MessageType::REQUEST) {
            (true, true) => {
                let before = host.received();
                let answer = host.send(body.clone()).map_err(crate::Error::other)?;
                calls.insert(id, (body, answer));
                wait_for_reaction(&host, before, REACTION_WAIT);
            }
            (false, true) => match wait_for(&inbox, &body) {
                Some(sender) => {
                    out.requests += 1;
                    asked.insert(id, sender);
                }
                None => out.missing.push(body),
            },
            (true, false) => {
                if let Some(sender) = asked.remove(&id) {
                    let before = host.received();
                    drop(sender.try_send(body));
                    wait_for_reaction(&host, before, REQUEST_WAIT);
                }
            }
            (false, false) => {
                let (request, answer) = calls.remove(&id).ok_or_else(|| crate::Error::other("answers nothing"))?;
                let got = wait_for_answer(&answer, || {
                    for (request, sender) in std::mem::take(&mut *inbox.lock()) {
                        drop(sender.try_send(Body::from(answers(&request, place))));
                        out.others.push(request);
                    }
                })?;
                out.calls.push((request, body, got));
            }
        }
    }
    Ok(out)
}

/// The runtime reacts to everything, with a request or with an answer: until then, nothing else may happen.
fn wait_for_reaction(host: &TestHost, before: usize, longest: Duration) {
    let begin = std::time::Instant::now();
    while host.received() == before && begin.elapsed() < longest {
        thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for(inbox: &Mutex<Vec<Asked>>, body: &Body) -> Option<SyncSender<Body>> {
    let begin = std::time::Instant::now();
    loop {
        let mut waiting = inbox.lock();
        if let Some(at) = waiting.iter().position(|(request, _)| request == body) {
            return Some(waiting.remove(at).1);
        }
        drop(waiting);
        if begin.elapsed() > REQUEST_WAIT {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_answer(answer: &Receiver<Body>, mut serve_others: impl FnMut()) -> Result<Body, crate::Error> {
    let begin = std::time::Instant::now();
    loop {
        match answer.recv_timeout(ANSWER_WAIT) {
            Ok(body) => return Ok(body),
            Err(error) if begin.elapsed() > TEST_TIMEOUT => return Err(crate::Error::other(error)),
            Err(_) => serve_others(),
        }
    }
}

/// The answers of a recorded host, to be given again.
#[derive(Debug, Default)]
pub struct RecordedAnswers(HashMap<Vec<u8>, Vec<(usize, Body)>>);

impl RecordedAnswers {
    /// Reads frames, each with whether the host sent it.
    ///
    /// # Errors
    /// If one is malformed.
    pub fn new(frames: impl IntoIterator<Item = (bool, Vec<u8>)>) -> Result<Self, crate::Error> {
        let (mut answers, mut open) = (Self::default(), HashMap::new());
        for (place, (from_host, frame)) in frames.into_iter().enumerate() {
            let message = frame::decode(&frame)?;
            if message.message_type == MessageType::REQUEST && !from_host {
                open.insert(message.id, base_codec::cbor::to_vec(&message.body));
            } else if from_host
                && message.message_type == MessageType::RESPONSE
                && let Some(request) = open.remove(&message.id)
            {
                answers.0.entry(request).or_default().push((place, message.body));
            }
        }
        Ok(answers)
    }

    /// What the host answered to that request: the last answer up to a place in the recording, else the first after it.
    pub fn answer(&self, request: &Body, place: usize) -> Option<Body> {
        let answers = self.0.get(&base_codec::cbor::to_vec(request))?;
        let before = answers.iter().rev().find(|(at, _)| *at <= place);
        before.or_else(|| answers.first()).map(|(_, body)| body.clone())
    }

    /// All answers.
    pub fn all(&self) -> impl Iterator<Item = &Body> {
        self.0.values().flatten().map(|(_, body)| body)
    }
}

/// Reads frames until the connection closes; requests are answered on threads of their own.
fn read_all(
    mut reader: UnixStream,
    writer: UnixStream,
    waiting: &Mutex<Waiting>,
    asked: &Mutex<Vec<Body>>,
    received: &AtomicUsize,
    answers: Arc<Answers>,
) {
    let writer = Arc::new(Mutex::new(writer));
    let mut header = [0; frame::LENGTH_BYTES];
    while reader.read_exact(&mut header).is_ok() {
        let Ok(length) = frame::frame_length(header, frame::MAX_FRAME_BYTES) else { return };
        let mut bytes = vec![0; length];
        if reader.read_exact(&mut bytes).is_err() {
            return;
        }
        let Ok(message) = frame::decode(&bytes) else { return };
        if message.message_type == MessageType::RESPONSE {
            let waiter = waiting.lock().open.remove(&message.id);
            if let Some(waiter) = waiter {
                drop(waiter.try_send(message.body));
            }
            received.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        asked.lock().push(message.body.clone());
        received.fetch_add(1, Ordering::SeqCst);
        let (answers, writer) = (Arc::clone(&answers), Arc::clone(&writer));
        thread::spawn(move || {
            let body = Body::from(answers(&message.body));
            if let Ok(bytes) = frame::encode(&Message::response(message.id, body), frame::MAX_FRAME_BYTES) {
                drop(writer.lock().write_all(&bytes));
            }
        });
    }
}
