//! The log: one JSON object per line on standard error, as hosts expect it of runtimes.
//!
//! Fields: `level` (`DEBG`, `INFO`, `WARN`, `ERRO`), `module`, `msg`, `ts` (RFC 3339), and those of the event.

use std::fmt;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Makes the log of this process; what is below `level` is left out. A log that was made before stays.
pub fn init(level: Level) {
    let made =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).event_format(JsonLines).try_init();
    drop(made);
}

struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let meta = event.metadata();
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        for (key, value) in
            [("level", level(*meta.level())), ("module", &meta.target().replace("::", "/")), ("ts", &now)]
        {
            fields.0.insert(key.to_owned(), Value::from(value));
        }
        let line = serde_json::to_string(&fields.0).map_err(|_| fmt::Error)?;
        writeln!(out, "{line}")
    }
}

/// The names that the reference's loggers use.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERRO",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        _ => "DEBG",
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
