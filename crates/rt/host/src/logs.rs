//! What runtimes print: turned into log lines of the node, and kept in a file per component.
//!
//! A runtime is not trusted: lines are cut at [`MAX_LINE_BYTES`], and a file never grows beyond its limit. Source:
//! `go/runtime/host/logger.go`, `go/runtime/log`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use base_prims::Namespace;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use wire_runtime::bundle::ComponentId;

/// Most bytes of a line; longer ones are dropped.
pub const MAX_LINE_BYTES: usize = 10_000;
/// Default of `runtime.log.max_log_size`.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 1 << 20;
/// Least that may be configured.
pub const MIN_MAX_FILE_BYTES: u64 = 1024;
/// Lines per second of one stream of output that are logged; the rest is counted and dropped.
pub const MAX_LINES_PER_SECOND: u32 = 1000;
/// Field of a line that names what happened.
const LOG_EVENT: &str = "log_event";

/// Level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `DEBG`
    Debug,
    /// `INFO`
    Info,
    /// `WARN`
    Warn,
    /// `ERRO`
    Error,
}

impl Level {
    /// As the node's log files have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A line that a runtime printed, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its level; what is not in the runtimes' format is a warning.
    pub level: Level,
    /// `runtime`, or below it.
    pub module: String,
    /// The message.
    pub message: String,
    /// Everything else that it said.
    pub fields: Map<String, Value>,
}

impl Line {
    /// Reads a line, without its end.
    pub fn parse(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        let plain = |message: &str| Self {
            level: Level::Warn,
            module: "runtime".into(),
            message: message.into(),
            fields: Map::new(),
        };
        let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
            return plain(text);
        };
        let mut take = |key: &str| fields.remove(key);
        let message = match take("msg") {
            None => String::new(),
            Some(Value::String(message)) => message,
            Some(_) => return plain(text),
        };
        let level = match take("level").as_ref().and_then(Value::as_str) {
            Some("DEBG") => Level::Debug,
            Some("WARN") => Level::Warn,
            Some("ERRO") => Level::Error,
            _ => Level::Info,
        };
        let module = match take("module").as_ref().and_then(Value::as_str) {
            None | Some("" | "runtime") => "runtime".into(),
            Some(module) if module.starts_with("runtime/") => module.into(),
            Some(module) => format!("runtime/{module}"),
        };
        Self { level, module, message, fields }
    }

    /// What whoever watches the node's log is told by name; it stands beside the node's own.
    fn log_event(&self) -> Option<&str> {
        self.fields.get(LOG_EVENT).and_then(Value::as_str)
    }
}

/// Who prints.
#[derive(Clone, Debug)]
pub struct Source {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Its name.
    pub runtime_name: String,
    /// The component.
    pub component: ComponentId,
    /// What started it.
    pub provisioner: String,
}

/// Log file of a component: JSON lines. At its size limit it is deleted and begun anew.
#[derive(Debug)]
pub struct ComponentLog {
    path: PathBuf,
    max_bytes: u64,
    state: Mutex<Option<(File, u64)>>,
}

impl ComponentLog {
    /// Path of a component's log file below the data directory.
    pub fn path_in(data_dir: &Path, runtime_id: &Namespace, component: &ComponentId) -> PathBuf {
        data_dir.join("runtimes/logs").join(runtime_id.to_string()).join(component.to_string()).join("log")
    }

    /// Begins a file anew, with the folders above it.
    ///
    /// # Errors
    /// If the file system refuses, or the limit is below [`MIN_MAX_FILE_BYTES`].
    pub fn create(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        if max_bytes < MIN_MAX_FILE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("log size limit of {max_bytes} bytes is below {MIN_MAX_FILE_BYTES}"),
            ));
        }
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let log = Self { path, max_bytes, state: Mutex::new(None) };
        *log.state.lock() = Some((log.open()?, 0));
        Ok(log)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line. Failures are not reported: a full disk must not end a runtime.
    pub fn write(&self, line: &Line, source: &Source, now: SystemTime) {
        let mut object = Map::new();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        object.insert("ts".into(), json!(rfc3339(since)));
        object.insert("level".into(), json!(line.level.as_str()));
        object.insert("module".into(), json!(line.module));
        object.insert("msg".into(), json!(line.message));
        for (key, value) in &line.fields {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
        object.insert("runtime_id".into(), json!(source.runtime_id.to_string()));
        object.insert("runtime_name".into(), json!(source.runtime_name));
        object.insert("component".into(), json!(source.component.to_string()));
        object.insert("provisioner".into(), json!(source.provisioner));
        let mut bytes = Value::Object(object).to_string().into_bytes();
        bytes.push(b'\n');
        let _ = self.append(&bytes);
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let mut state = self.state.lock();
        let full = state.as_ref().is_none_or(|(_, size)| size.saturating_add(length) > self.max_bytes);
        if full {
            *state = None;
            match fs::remove_file(&self.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            *state = Some((self.open()?, 0));
        }
        if let Some((file, size)) = state.as_mut()
            && length <= self.max_bytes
        {
            file.write_all(bytes)?;
            *size = size.saturating_add(length);
        }
        Ok(())
    }
}

/// RFC 3339 in UTC with microseconds, as times of log lines are; later ones sort behind earlier ones.
pub fn rfc3339(since_epoch: std::time::Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970-01-01, by eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        since_epoch.subsec_micros()
    )
}

/// Cuts output into lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    buffer: Vec<u8>,
    /// The line being read is too long.
    skipping: bool,
}

impl LineCutter {
    /// Takes output; calls `line` with each line, and with `None` for one that was dropped because of its length.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Option<&[u8]>)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (content, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |content| (content, true));
            if !self.skipping {
                if self.buffer.len() + content.len() > MAX_LINE_BYTES {
                    self.buffer.clear();
                    self.skipping = true;
                    line(None);
                } else {
                    self.buffer.extend_from_slice(content);
                }
            }
            if ends {
                if !self.skipping {
                    line(Some(&self.buffer));
                }
                self.buffer.clear();
                self.skipping = false;
            }
        }
    }

    /// What came after the last line end.
    pub fn rest(&self) -> Option<&[u8]> {
        (!self.buffer.is_empty()).then_some(&self.buffer)
    }
}

/// Logs one line of a runtime.
fn emit(line: &Line, source: &Source, log: Option<&ComponentLog>) {
    let fields = if line.fields.is_empty() { String::new() } else { Value::Object(line.fields.clone()).to_string() };
    let log_event = line.log_event();
    macro_rules! at {
        ($level:ident) => {
            tracing::$level!(
                target: "runtime",
                module = %line.module,
                runtime_id = %source.runtime_id,
                runtime_name = %source.runtime_name,
                component = %source.component,
                provisioner = %source.provisioner,
                log_event,
                fields,
                "{}", line.message
            )
        };
    }
    match line.level {
        Level::Debug => at!(debug),
        Level::Info => at!(info),
        Level::Warn => at!(warn),
        Level::Error => at!(error),
    }
    if let Some(log) = log {
        log.write(line, source, SystemTime::now());
    }
}

/// Logs what a process prints until it closes the stream.
pub async fn forward(mut output: impl AsyncRead + Unpin, source: Source, log: Option<Arc<ComponentLog>>) {
    let mut cutter = LineCutter::default();
    let mut buffer = vec![0; 16 << 10];
    let mut second = tokio::time::Instant::now();
    let (mut lines, mut dropped) = (0u32, 0u64);
    while let Ok(count) = output.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        if second.elapsed().as_secs() >= 1 {
            if dropped > 0 {
                tracing::warn!(runtime_id = %source.runtime_id, component = %source.component, dropped,
                    "runtime prints too much, dropping logs");
            }
            (second, lines, dropped) = (tokio::time::Instant::now(), 0, 0);
        }
        cutter.push(buffer.get(..count).unwrap_or_default(), |line| {
            lines = lines.saturating_add(1);
            if lines > MAX_LINES_PER_SECOND {
                dropped = dropped.saturating_add(1);
                return;
            }
            match line {
                Some(line) => emit(&Line::parse(line), &source, log.as_deref()),
                None => tracing::warn!(runtime_id = %source.runtime_id, component = %source.component,
                    "runtime log line is too long, dropping it"),
            }
        });
    }
    if let Some(rest) = cutter.rest() {
        emit(&Line::parse(rest), &source, log.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_output_is_cut_the_same_however_it_comes(
            bytes in prop::collection::vec(prop::sample::select(b"{}\":,\n[]1a\xff\\msglevel".to_vec()), 0..400),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in at {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            let (lines, rest) = cut(&chunks);
            prop_assert_eq!((&lines, &rest), (&cut(&[&bytes]).0, &cut(&[&bytes]).1));
            let count = lines.len();
            prop_assert_eq!(count, bytes.iter().filter(|b| **b == b'\n').count());
            for line in lines.into_iter().flatten().chain(rest) {
                let line = Line::parse(&line);
                prop_assert!(line.module == "runtime" || line.module.starts_with("runtime/"));
            }
        }

        #[test]
        fn arbitrary_lines_keep_their_text_or_their_fields(text in "\\PC{0,200}", level in "\\PC{0,6}") {
            let line = Line::parse(json!({"msg": text, "level": level, "x": 1}).to_string().as_bytes());
            prop_assert_eq!((line.message.as_str(), line.fields.len()), (text.as_str(), 1));
            if serde_json::from_str::<Value>(&text).is_err() {
                prop_assert_eq!(Line::parse(text.as_bytes()).message, text.trim());
            }
        }
    }

    fn cut(chunks: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, Option<Vec<u8>>) {
        let (mut cutter, mut out) = (LineCutter::default(), Vec::new());
        for chunk in chunks {
            cutter.push(chunk, |line| out.push(line.map(<[u8]>::to_vec)));
        }
        (out, cutter.rest().map(<[u8]>::to_vec))
    }

    #[test]
    fn cuts_lines_wherever_the_chunks_end() {
        let (lines, rest) = cut(&[b"a", b"b\nc\n", b"", b"\nde"]);
        assert_eq!(lines, [Some(b"ab".to_vec()), Some(b"c".to_vec()), Some(vec![])]);
        assert_eq!(rest, Some(b"de".to_vec()));
    }

    #[test]
    fn drops_long_lines_once_and_holds_little() {
        let long = vec![b'x'; 3 * MAX_LINE_BYTES];
        let (lines, rest) = cut(&[&long, &long, b"\nshort\n"]);
        assert_eq!(lines, [None, Some(b"short".to_vec())]);
        assert_eq!(rest, None);
        let (lines, _) = cut(&[&vec![b'y'; MAX_LINE_BYTES], b"\n"]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].is_some());
    }

    #[test]
    fn reads_the_format_of_runtimes() {
        let line = Line::parse(br#"{"msg":"started","level":"DEBG","module":"dispatcher","ts":"x","n":1}"#);
        assert_eq!(
            (line.level, line.module.as_str(), line.message.as_str()),
            (Level::Debug, "runtime/dispatcher", "started")
        );
        assert_eq!((line.fields.len(), line.log_event()), (2, None));
        let event = Line::parse(br#"{"msg":"m","log_event":"consensus/cometbft/verifier/chain_context/failed"}"#);
        assert_eq!(event.log_event(), Some("consensus/cometbft/verifier/chain_context/failed"));
        assert_eq!(Line::parse(br#"{"msg":"m","log_event":7}"#).log_event(), None);
        assert_eq!(Line::parse(br#"{"msg":"m","level":"ERRO","module":"runtime/x"}"#).module, "runtime/x");
        assert_eq!(Line::parse(br#"{"msg":"m","level":"?"}"#).level, Level::Info);
        for plain in ["bwrap: Failed to mount tmpfs: Permission denied", "[1]", r#"{"msg":1}"#, ""] {
            let line = Line::parse(plain.as_bytes());
            assert_eq!((line.level, line.module.as_str(), line.message.as_str()), (Level::Warn, "runtime", plain));
        }
        assert_eq!(Line::parse(b"\xff\xfe").level, Level::Warn);
    }

    #[test]
    fn times_are_civil() {
        let at = |s: u64| rfc3339(std::time::Duration::new(s, 5_000));
        assert_eq!(at(0), "1970-01-01T00:00:00.000005Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000005Z");
        assert_eq!(at(1_763_744_399), "2025-11-21T16:59:59.000005Z");
    }

    #[test]
    fn a_file_is_begun_anew_at_its_limit() {
        let dir = tempfile::tempdir().expect("a folder");
        let source = Source {
            runtime_id: Namespace::default(),
            runtime_name: "n".into(),
            component: ComponentId::Ronl,
            provisioner: "sandbox".into(),
        };
        let path = ComponentLog::path_in(dir.path(), &source.runtime_id, &source.component);
        assert!(ComponentLog::create(path.clone(), MIN_MAX_FILE_BYTES - 1).is_err());
        let log = ComponentLog::create(path.clone(), MIN_MAX_FILE_BYTES).expect("creates");
        let mut largest = 0;
        for n in 0..50 {
            log.write(&Line::parse(format!(r#"{{"msg":"number {n}"}}"#).as_bytes()), &source, SystemTime::UNIX_EPOCH);
            largest = largest.max(fs::metadata(&path).expect("there").len());
        }
        assert!(largest <= MIN_MAX_FILE_BYTES && largest > MIN_MAX_FILE_BYTES / 2, "{largest}");
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.contains("number 49") && !text.contains("number 0\""));
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(value["component"], "ronl");
        }
        // A line that can never fit is dropped.
        log.write(&Line::parse(&[b'z'; 2000]), &source, SystemTime::UNIX_EPOCH);
        assert!(fs::metadata(&path).expect("there").len() <= MIN_MAX_FILE_BYTES);
    }
}
