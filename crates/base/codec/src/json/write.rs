//! JSON text byte for byte as Go prints it.

use std::fmt::Write as _;

use super::{ToJson, Value};

/// Compact text (`json.Marshal`), with `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub fn to_string<T: ToJson + ?Sized>(v: &T) -> String {
    value_to_string(&v.to_json())
}

/// Text indented by two spaces (`json.MarshalIndent(v, "", "  ")`), without a final newline.
pub fn to_string_pretty<T: ToJson + ?Sized>(v: &T) -> String {
    value_to_string_pretty(&v.to_json())
}

/// As [`to_string`], of a JSON value.
pub fn value_to_string(v: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, v, None);
    out
}

/// As [`to_string_pretty`], of a JSON value.
pub fn value_to_string_pretty(v: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, v, Some(0));
    out
}

/// Begins a new line at `level`, if the text is indented.
fn new_line(out: &mut String, level: Option<usize>) {
    if let Some(level) = level {
        out.push('\n');
        for _ in 0..level {
            out.push_str("  ");
        }
    }
}

/// Writes `v`, indented from `level` if there is one.
fn write_value(out: &mut String, v: &Value, level: Option<usize>) {
    let inner = level.map(|level| level + 1);
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(n) => {
            // Writing to a string can't fail.
            let _ = write!(out, "{n}");
        }
        Value::String(s) => write_string(out, s),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                new_line(out, inner);
                write_value(out, item, inner);
            }
            new_line(out, level);
            out.push(']');
        }
        Value::Object(fields) if fields.is_empty() => out.push_str("{}"),
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                new_line(out, inner);
                write_string(out, key);
                out.push_str(if level.is_some() { ": " } else { ":" });
                write_value(out, value, inner);
            }
            new_line(out, level);
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string can't fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
