//! Log lines in the reference's two formats, with a level for each module.
//!
//! An event names its module by a field `module`; events without one, of libraries, have the path of their code. Other
//! fields follow as key and value. Reference: `go/common/logging`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Longest value of a field in bytes; the rest is cut.
const MAX_VALUE: usize = 64 << 10;

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `key=value` pairs.
    #[default]
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Which lines are written: a level by prefix of module; `default` for all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    by_prefix: Vec<(String, Level)>,
    default: Option<Level>,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A level that does not exist.
    #[error("logging: invalid log level {level:?} of module {module:?}: expected debug, info, warn or error")]
    Level {
        /// The module.
        module: String,
        /// What was given.
        level: String,
    },
    /// A format that does not exist.
    #[error("logging: invalid log format {0:?}: expected logfmt or json")]
    Format(String),
    /// The file can't be opened.
    #[error("logging: can't open log file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Set up before.
    #[error("logging: already set up")]
    Twice,
}

impl Format {
    /// By name, in any case.
    ///
    /// # Errors
    /// If there is no such format.
    pub fn parse(name: &str) -> Result<Self, LoggingError> {
        match name.to_ascii_lowercase().as_str() {
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(LoggingError::Format(name.to_owned())),
        }
    }
}

impl Levels {
    /// From names of levels by prefix.
    ///
    /// # Errors
    /// If a level does not exist.
    pub fn parse(levels: &BTreeMap<String, String>) -> Result<Self, LoggingError> {
        let mut parsed = Self::default();
        for (module, name) in levels {
            let level = match name.to_ascii_lowercase().as_str() {
                "debug" => Level::DEBUG,
                "info" => Level::INFO,
                "warn" => Level::WARN,
                "error" => Level::ERROR,
                _ => return Err(LoggingError::Level { module: module.clone(), level: name.clone() }),
            };
            if module == "default" {
                parsed.default = Some(level);
            } else {
                parsed.by_prefix.push((module.clone(), level));
            }
        }
        // The longest prefix wins: it comes last in the order of text.
        parsed.by_prefix.reverse();
        Ok(parsed)
    }

    /// Whether lines of that level are written for the module.
    pub fn enabled(&self, module: &str, level: Level) -> bool {
        let found = self.by_prefix.iter().find(|(prefix, _)| module.starts_with(prefix.as_str()));
        let most = found.map_or(self.default.unwrap_or(Level::WARN), |(_, most)| *most);
        level <= most
    }

    fn most(&self) -> Level {
        let levels = self.by_prefix.iter().map(|(_, level)| *level).chain(self.default);
        levels.max().unwrap_or(Level::WARN).max(Level::WARN)
    }
}

/// Sets up logging for the whole process.
///
/// # Errors
/// If the file can't be opened or logging is set up already.
pub fn init(format: Format, levels: Levels, file: Option<PathBuf>) -> Result<(), LoggingError> {
    let out: Box<dyn Write + Send> = match file {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = File::options().append(true).create(true).mode(0o600).open(&path);
            Box::new(file.map_err(|source| LoggingError::File { path, source })?)
        }
    };
    let layer = Lines::new(format, levels, out);
    tracing_subscriber::registry().with(layer).try_init().map_err(|_| LoggingError::Twice)
}

/// Writes events as lines.
pub struct Lines {
    format: Format,
    levels: Levels,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Lines {
    /// Writes events of those levels to `out`.
    pub fn new(format: Format, levels: Levels, out: Box<dyn Write + Send>) -> Self {
        Self { format, levels, out: Mutex::new(out) }
    }
}

/// The fields of an event as text.
#[derive(Default)]
struct Fields {
    message: String,
    module: Option<String>,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// A number or a truth value.
    Plain(String),
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Plain(text)) => self.message = text,
            ("module", Value::Text(text) | Value::Plain(text)) => self.module = Some(text),
            (name, Value::Text(mut text)) => {
                if text.len() > MAX_VALUE {
                    let end = (0..=MAX_VALUE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                    text.truncate(end);
                    text.push('…');
                }
                self.others.push((name, Value::Text(text)));
            }
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no "not a number".
        let value = if value.is_finite() { Value::Plain(value.to_string()) } else { Value::Text(value.to_string()) };
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, Value::Text(value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Text(format!("{value:?}")));
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// Nanoseconds since 1970 as the reference prints times: trailing zeros trimmed.
fn timestamp(now: OffsetDateTime) -> String {
    let (date, clock) = (now.date(), now.time());
    let nanos = format!("{:09}", clock.nanosecond());
    let nanos = nanos.trim_end_matches('0');
    let dot = if nanos.is_empty() { "" } else { "." };
    let (hour, minute, second) = clock.as_hms();
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{dot}{nanos}Z",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

fn logfmt_value(out: &mut String, text: &str) {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"=\\".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        out.push_str(text);
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn logfmt(level: Level, ts: &str, caller: &str, module: &str, fields: &Fields) -> String {
    let mut line = format!("level={} ts={ts} caller=", level_name(level));
    logfmt_value(&mut line, caller);
    line.push_str(" module=");
    logfmt_value(&mut line, module);
    line.push_str(" msg=");
    logfmt_value(&mut line, &fields.message);
    for (name, value) in &fields.others {
        let _ = write!(line, " {name}=");
        match value {
            Value::Text(text) => logfmt_value(&mut line, text),
            Value::Plain(text) => line.push_str(text),
        }
    }
    line.push('\n');
    line
}

fn json(level: Level, ts: &str, caller: &str, module: &str, fields: &Fields) -> String {
    let mut object: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
    for (name, value) in &fields.others {
        let value = match value {
            Value::Text(text) => text.as_str().into(),
            Value::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        };
        object.insert(name, value);
    }
    object.insert("level", level_name(level).into());
    object.insert("ts", ts.into());
    object.insert("caller", caller.into());
    object.insert("module", module.into());
    object.insert("msg", fields.message.as_str().into());
    let object: serde_json::Map<String, serde_json::Value> =
        object.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut line = serde_json::Value::Object(object).to_string();
    line.push('\n');
    line
}

impl<S: Subscriber> Layer<S> for Lines {
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.levels.most().into())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let module = fields.module.take().unwrap_or_else(|| metadata.target().replace("::", "/"));
        let level = *metadata.level();
        if !self.levels.enabled(&module, level) {
            return;
        }
        let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or("unknown");
        let caller = format!("{file}:{}", metadata.line().unwrap_or(0));
        let ts = timestamp(OffsetDateTime::now_utc());
        let line = match self.format {
            Format::Logfmt => logfmt(level, &ts, &caller, &module, &fields),
            Format::Json => json(level, &ts, &caller, &module, &fields),
        };
        // There is nowhere to report that the log can't be written.
        let _ = self.out.lock().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn levels(pairs: &[(&str, &str)]) -> Levels {
        let map = pairs.iter().map(|(module, level)| ((*module).to_owned(), (*level).to_owned())).collect();
        Levels::parse(&map).unwrap()
    }

    fn lines(format: Format) -> Vec<String> {
        let out = Shared::default();
        let layer = Lines::new(format, levels(&[("default", "info"), ("quiet", "error")]), Box::new(out.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(module = "worker/registration", epoch = 7, err = %"a \"b\"\n", ok = true, share = 0.5,
                log_event = crate::log_event::PRUNE, "node registered");
            tracing::debug!(module = "worker/registration", "not written");
            tracing::warn!(module = "quiet/x", "not written");
            tracing::error!(module = "quiet/x", "written");
            tracing::warn!("of a library");
        });
        let text = String::from_utf8(out.0.lock().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn writes_logfmt() {
        let lines = lines(Format::Logfmt);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("level=info ts=20"), "{}", lines[0]);
        assert!(lines[0].contains("Z caller=logging.rs:"), "{}", lines[0]);
        let end = r#" module=worker/registration msg="node registered" epoch=7 err="a \"b\"\n" ok=true share=0.5 log_event=cometbft/abci/prune"#;
        assert!(lines[0].ends_with(end), "{}", lines[0]);
        assert!(lines[2].contains("module=base_service/logging/tests msg=\"of a library\""), "{}", lines[2]);
    }

    #[test]
    fn writes_json_with_sorted_keys() {
        let lines = lines(Format::Json);
        let object: serde_json::Map<_, _> = serde_json::from_str(&lines[0]).unwrap();
        let keys: Vec<_> = object.keys().map(String::as_str).collect();
        assert_eq!(keys, ["caller", "epoch", "err", "level", "log_event", "module", "msg", "ok", "share", "ts"]);
        assert_eq!(object["share"], 0.5);
        assert_eq!(object[crate::log_event::KEY], "cometbft/abci/prune");
        assert_eq!(object["epoch"], 7);
        assert_eq!(object["err"], "a \"b\"\n");
    }

    #[test]
    fn the_longest_prefix_decides() {
        let levels = levels(&[("a", "error"), ("a/b", "debug"), ("default", "info")]);
        assert!(levels.enabled("a/b/c", Level::DEBUG));
        assert!(!levels.enabled("a/c", Level::WARN));
        assert!(levels.enabled("x", Level::INFO));
        assert!(!levels.enabled("x", Level::DEBUG));
        let none = Levels::default();
        assert!(none.enabled("x", Level::WARN) && !none.enabled("x", Level::INFO));
        let wrong = BTreeMap::from([("a".to_owned(), "loud".to_owned())]);
        assert!(Levels::parse(&wrong).expect_err("no such level").to_string().contains("loud"));
        assert!(Format::parse("JSON").is_ok() && Format::parse("xml").is_err());
    }

    #[test]
    fn times_lose_trailing_zeros() {
        let at = |nanos: i128| timestamp(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap());
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
    }
}
