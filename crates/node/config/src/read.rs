//! Values of the configuration: how they are read from and printed as YAML.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::load::Problem;
use crate::yaml::{Kind, Node};

/// What is wrong so far, and where we are.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Problem>,
    path: Vec<String>,
}

impl Reader {
    /// Path of the present key.
    pub(crate) fn path(&self) -> String {
        self.path.concat()
    }

    /// Notes what is wrong with the value of the present key.
    pub(crate) fn wrong(&mut self, node: &Node, expected: &str) {
        let message = format!("found {}, expected {expected}", node.describe());
        self.problem(node.line, message);
    }

    /// Notes something wrong.
    pub(crate) fn problem(&mut self, line: usize, message: String) {
        self.problems.push(Problem { line: Some(line), path: self.path(), message });
    }

    /// Reads a value below the present key.
    pub(crate) fn below<T: Value + ?Sized>(&mut self, step: String, value: &mut T, node: &Node) {
        self.path.push(step);
        value.read(node, self);
        self.path.pop();
    }

    pub(crate) fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!(".{key}") }
    }

    /// Goes through the keys of a section. `take` reads the value of a known key and tells whether it knows it.
    pub(crate) fn section(&mut self, node: &Node, known: &[&str], take: &mut dyn FnMut(&mut Self, &str, &Node)) {
        if node.is_null() {
            return;
        }
        let Kind::Map(entries) = &node.kind else {
            self.wrong(node, "a map of keys and values");
            return;
        };
        for (at, (key, line, value)) in entries.iter().enumerate() {
            self.path.push(self.child(key));
            if let Some((_, first, _)) = entries[..at].iter().find(|(other, ..)| other == key) {
                self.problem(*line, format!("given twice, first in line {first}"));
            } else if known.contains(&key.as_str()) {
                take(self, key, value);
            } else {
                let hint = nearest(key, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                self.problem(*line, format!("unknown key{hint}"));
            }
            self.path.pop();
        }
    }
}

/// The known key that is closest, if one is close.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = |other: &&&str| distance(key, other) <= 1 + other.len() / 5;
    known.iter().filter(close).min_by_key(|other| distance(key, other)).copied()
}

/// Edit distance without case; long keys are not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    if a.len() > 100 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

/// A value that a key can have.
pub(crate) trait Value {
    /// Reads over what is there; an empty value changes nothing.
    fn read(&mut self, node: &Node, reader: &mut Reader);
    /// Prints the value after its key and colon, and ends the line.
    fn print(&self, out: &mut String, indent: usize);
    /// Adds the paths of all keys that have a value of their own, `path` being that of this one.
    fn keys(path: &str, out: &mut Vec<String>)
    where
        Self: Sized,
    {
        out.push(path.to_owned());
    }
}

/// A scalar that is text without quotes where quotes are not needed.
pub(crate) fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/_.-+=@:".contains(c);
    let mistakable = matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | ".inf" | ".nan"
    ) || text.parse::<f64>().is_ok()
        || text.starts_with(['-', '@', ':', '='])
        || text.ends_with(':')
        || text.starts_with("0x")
        || text.starts_with("0o");
    if text.chars().all(safe) && !mistakable {
        return text.to_owned();
    }
    quoted(text)
}

/// A scalar in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, " {text}");
}

/// Prints a scalar and ends the line.
pub(crate) fn print_scalar(out: &mut String, text: &str) {
    line(out, &scalar(text));
}

impl Value for bool {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.kind {
            _ if node.is_null() => {}
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => *self = true,
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => *self = false,
                _ => reader.wrong(node, "true or false"),
            },
            _ => reader.wrong(node, "true or false"),
        }
    }

    fn print(&self, out: &mut String, _indent: usize) {
        line(out, if *self { "true" } else { "false" });
    }
}

impl Value for String {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.kind {
            _ if node.is_null() => {}
            Kind::Scalar { text, .. } => self.clone_from(text),
            _ => reader.wrong(node, "text"),
        }
    }

    fn print(&self, out: &mut String, _indent: usize) {
        line(out, &scalar(self));
    }
}

/// An integer of YAML: decimal, `0x`, `0o` or `0b`, underscores between digits.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Value for $t {
            fn read(&mut self, node: &Node, reader: &mut Reader) {
                let found = match &node.kind {
                    _ if node.is_null() => return,
                    Kind::Scalar { text, plain: true } => integer(text).and_then(|value| Self::try_from(value).ok()),
                    _ => None,
                };
                match found {
                    Some(value) => *self = value,
                    None => reader.wrong(node, &format!("a whole number from {} to {}", Self::MIN, Self::MAX)),
                }
            }

            fn print(&self, out: &mut String, _indent: usize) {
                line(out, &self.to_string());
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i64);

impl Value for f64 {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.kind {
            _ if node.is_null() => {}
            Kind::Scalar { text, plain: true } => match Self::from_str(text) {
                Ok(value) if value.is_finite() => *self = value,
                _ => reader.wrong(node, "a number"),
            },
            _ => reader.wrong(node, "a number"),
        }
    }

    fn print(&self, out: &mut String, _indent: usize) {
        line(out, &self.to_string());
    }
}

/// Text that stands for a value of its own kind.
macro_rules! textual {
    ($t:ty, $expected:literal) => {
        impl Value for $t {
            fn read(&mut self, node: &Node, reader: &mut Reader) {
                match &node.kind {
                    _ if node.is_null() => {}
                    Kind::Scalar { text, .. } => match text.parse() {
                        Ok(value) => *self = value,
                        Err(_) => reader.wrong(node, $expected),
                    },
                    _ => reader.wrong(node, $expected),
                }
            }

            fn print(&self, out: &mut String, _indent: usize) {
                $crate::read::print_scalar(out, &self.to_string());
            }
        }
    };
}
pub(crate) use textual;

/// A span of time as Go writes it: `1h30m`, `2m0s`, `250ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(
    /// The span.
    pub Duration,
);

impl FromStr for GoDuration {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut nanos: u128 = 0;
        if rest.is_empty() || rest.len() > 64 {
            return Err(());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(())?;
            let (number, after) = rest.split_at(end);
            let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let scale: u128 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(()),
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
                return Err(());
            }
            let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| ())? };
            nanos = whole.checked_mul(scale).and_then(|part| nanos.checked_add(part)).ok_or(())?;
            if !fraction.is_empty() {
                let digits: u128 = fraction.parse().map_err(|_| ())?;
                let power = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| ())?);
                nanos = (digits * scale / power).checked_add(nanos).ok_or(())?;
            }
            rest = after;
        }
        match i64::try_from(nanos) {
            Ok(nanos) => Ok(Self(Duration::from_nanos(nanos.unsigned_abs()))),
            Err(_) => Err(()),
        }
    }
}

impl std::fmt::Display for GoDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let nanos = self.0.subsec_nanos();
        let decimals = |whole: u64, fraction: u64, digits: usize| {
            let text = format!("{whole}.{fraction:0digits$}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        if seconds == 0 {
            let nanos = u64::from(nanos);
            return match nanos {
                0 => f.write_str("0s"),
                1..1_000 => write!(f, "{nanos}ns"),
                1_000..1_000_000 => write!(f, "{}µs", decimals(nanos / 1_000, nanos % 1_000, 3)),
                _ => write!(f, "{}ms", decimals(nanos / 1_000_000, nanos % 1_000_000, 6)),
            };
        }
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimals(seconds % 60, u64::from(nanos), 9))
    }
}
textual!(GoDuration, "a duration such as 90s, 2m0s or 720h");

/// A number of bytes with its unit: `256mb`, `64 kb`, `1gb`, plain bytes; units are powers of 1024.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByteSize {
    text: String,
    bytes: u64,
}

impl ByteSize {
    /// Bytes; 0 if the key was not set.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl FromStr for ByteSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let lower = text.trim().to_ascii_lowercase();
        if lower.is_empty() {
            return Ok(Self::default());
        }
        let end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let (number, unit) = lower.split_at(end);
        let scale: u64 = match unit.trim() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(()),
        };
        let bytes = number.parse::<u64>().map_err(|_| ())?.checked_mul(scale).ok_or(())?;
        Ok(Self { text: text.trim().to_owned(), bytes })
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
textual!(ByteSize, "a size such as 512kb, 256mb or 1gb");

/// A runtime's id: 64 hex digits, or base64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identifier(
    /// The id.
    pub base_prims::Namespace,
);

impl FromStr for Identifier {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().map(Self).map_err(|_| ())
    }
}

impl std::fmt::Display for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
textual!(Identifier, "a runtime id of 64 hex digits");

impl<T: Value + Default> Value for Vec<T> {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.kind {
            _ if node.is_null() => {}
            Kind::List(items) => {
                self.clear();
                for (at, item) in items.iter().enumerate() {
                    let mut value = T::default();
                    reader.below(format!("[{at}]"), &mut value, item);
                    self.push(value);
                }
            }
            _ => reader.wrong(node, "a list"),
        }
    }

    fn print(&self, out: &mut String, indent: usize) {
        if self.is_empty() {
            return line(out, "[]");
        }
        out.push('\n');
        for item in self {
            let mut text = String::new();
            item.print(&mut text, indent + 1);
            // A section starts on a line of its own; its first key goes behind the dash.
            let text = text.strip_prefix('\n').map_or(text.trim_start(), |block| block.trim_start());
            let _ = write!(out, "{:width$}- {text}", "", width = indent * 2);
        }
    }
}

impl<T: Value + Default> Value for BTreeMap<String, T> {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        match &node.kind {
            _ if node.is_null() => {}
            Kind::Map(entries) => {
                for (at, (key, line, item)) in entries.iter().enumerate() {
                    if let Some((_, first, _)) = entries[..at].iter().find(|(other, ..)| other == key) {
                        reader.problem(*line, format!("`{key}` given twice, first in line {first}"));
                        continue;
                    }
                    let mut value = T::default();
                    let step = reader.child(key);
                    reader.below(step, &mut value, item);
                    self.insert(key.clone(), value);
                }
            }
            _ => reader.wrong(node, "a map of keys and values"),
        }
    }

    fn print(&self, out: &mut String, indent: usize) {
        if self.is_empty() {
            return line(out, "{}");
        }
        out.push('\n');
        for (key, item) in self {
            let _ = write!(out, "{:width$}{}:", "", scalar(key), width = indent * 2);
            item.print(out, indent + 1);
        }
    }
}

/// Whatever a runtime's own configuration holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Any {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a point.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Any>),
    /// A map.
    Map(BTreeMap<String, Any>),
}

impl Value for Any {
    fn read(&mut self, node: &Node, reader: &mut Reader) {
        *self = match &node.kind {
            _ if node.is_null() => Self::Null,
            Kind::Scalar { text, plain: false } => Self::Text(text.clone()),
            Kind::Scalar { text, .. } => match text.as_str() {
                "true" | "True" | "TRUE" => Self::Bool(true),
                "false" | "False" | "FALSE" => Self::Bool(false),
                _ => match (integer(text), text.parse::<f64>()) {
                    (Some(value), _) if i64::try_from(value).is_ok() || u64::try_from(value).is_ok() => {
                        Self::Int(value)
                    }
                    (None, Ok(value)) if text.contains(|c: char| c.is_ascii_digit()) => Self::Float(value),
                    _ => Self::Text(text.clone()),
                },
            },
            Kind::List(_) => {
                let mut items = Vec::new();
                items.read(node, reader);
                Self::List(items)
            }
            Kind::Map(_) => {
                let mut entries = BTreeMap::new();
                entries.read(node, reader);
                Self::Map(entries)
            }
        };
    }

    fn print(&self, out: &mut String, indent: usize) {
        match self {
            Self::Null => line(out, "null"),
            Self::Bool(value) => value.print(out, indent),
            Self::Int(value) => line(out, &value.to_string()),
            Self::Float(value) => line(out, &format!("{value:?}")),
            Self::Text(value) => value.print(out, indent),
            Self::List(value) => value.print(out, indent),
            Self::Map(value) => value.print(out, indent),
        }
    }
}
