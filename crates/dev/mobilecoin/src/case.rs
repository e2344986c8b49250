//! Reading the fields of a case.

use std::fmt::{Debug, Display};

use serde_json::Value;
use wire_mobilecoin::Message;

use crate::Checked;

/// A case, and the file that it is in.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The case.
    pub value: &'a Value,
    /// The whole file.
    pub root: &'a Value,
}

/// What a field may be compared as.
pub type Field<T> = Result<T, String>;

/// Debug form without texts that it quotes.
pub fn normalized(debug: &str) -> String {
    let mut out = debug.to_owned();
    while let Some(start) = out.find("(\"") {
        let end = out[start..].find("\")").map_or(out.len(), |end| start + end + 2);
        out.replace_range(start..end, "");
    }
    out
}

/// Fails unless both are equal.
pub fn same<T: PartialEq + Debug>(what: &str, ours: T, recorded: T) -> Checked {
    if ours == recorded { Ok(()) } else { Err(format!("{what}: ours is {ours:?}, recorded {recorded:?}")) }
}

impl<'a> Case<'a> {
    /// Another object of the same file.
    pub fn at(&self, value: &'a Value) -> Self {
        Self { value, root: self.root }
    }

    /// A field, null if it is not there.
    pub fn field(&self, name: &str) -> &'a Value {
        &self.value[name]
    }

    /// A field that is a list.
    pub fn list(&self, name: &str) -> Field<&'a Vec<Value>> {
        self.value[name].as_array().ok_or_else(|| format!("{name} is no list"))
    }

    /// A field that is a text.
    pub fn text(&self, name: &str) -> Field<&'a str> {
        self.value[name].as_str().ok_or_else(|| format!("{name} is no text"))
    }

    /// A field of bytes.
    pub fn hex(&self, name: &str) -> Field<Vec<u8>> {
        from_hex(&self.value[name]).map_err(|e| format!("{name}: {e}"))
    }

    /// A field of so many bytes.
    pub fn array<const N: usize>(&self, name: &str) -> Field<[u8; N]> {
        self.hex(name)?.try_into().map_err(|_| format!("{name} is not {N} bytes"))
    }

    /// A field of a fixed-length type.
    pub fn fixed<T: for<'b> TryFrom<&'b [u8]>>(&self, name: &str) -> Field<T> {
        T::try_from(&self.hex(name)?).map_err(|_| format!("{name} has a wrong length"))
    }

    /// A number, as such or as decimal text.
    pub fn number(&self, name: &str) -> Field<u64> {
        to_number(&self.value[name]).ok_or_else(|| format!("{name} is no number"))
    }

    /// A number of 32 bits.
    pub fn number32(&self, name: &str) -> Field<u32> {
        self.number(name)?.try_into().map_err(|_| format!("{name} is too large"))
    }

    /// A message, which must encode to the same bytes again.
    pub fn message<T: Message + Default>(&self, name: &str) -> Field<T> {
        decode(&self.value[name]).map_err(|e| format!("{name}: {e}"))
    }

    /// A list of messages.
    pub fn messages<T: Message + Default>(&self, name: &str) -> Field<Vec<T>> {
        self.list(name)?.iter().map(|v| decode(v).map_err(|e| format!("{name}: {e}"))).collect()
    }

    /// Fails unless a field of bytes is ours.
    pub fn expect(&self, name: &str, ours: impl AsRef<[u8]>) -> Checked {
        let recorded = self.hex(name)?;
        if ours.as_ref() == recorded {
            Ok(())
        } else {
            Err(format!("{name}: ours is {}, recorded {}", hex::encode(ours), hex::encode(recorded)))
        }
    }

    /// Fails unless a field of text is ours.
    pub fn expect_text(&self, name: &str, ours: impl Display) -> Checked {
        same(name, ours.to_string().as_str(), self.text(name)?)
    }

    /// Fails unless a number is ours.
    pub fn expect_number(&self, name: &str, ours: u64) -> Checked {
        same(name, ours, self.number(name)?)
    }

    /// Fails unless `result` is our verdict.
    pub fn verdict<T, E: Debug>(&self, ours: Result<T, E>) -> Checked {
        verdict(self.field("result"), ours)
    }

    /// Fails unless the field `error` is ours.
    pub fn expect_error<T, E: Debug>(&self, ours: Result<T, E>) -> Checked {
        let recorded = self.text("error")?;
        match ours {
            Ok(_) => Err(format!("accepted, recorded {recorded}")),
            Err(error) => same("error", normalized(&format!("{error:?}")), normalized(recorded)),
        }
    }
}

/// Fails unless a recorded `"ok"` or `{"error": name}` is our verdict.
pub fn verdict<T, E: Debug>(recorded: &Value, ours: Result<T, E>) -> Checked {
    let ours = match ours {
        Ok(_) => "ok".to_owned(),
        Err(error) => normalized(&format!("{error:?}")),
    };
    let recorded = match recorded.as_str() {
        Some("ok") => "ok".to_owned(),
        _ => normalized(recorded["error"].as_str().ok_or("result is neither ok nor an error")?),
    };
    same("verdict", ours, recorded)
}

/// A decoded message that encodes to the same bytes.
pub fn decode<T: Message + Default>(value: &Value) -> Field<T> {
    let bytes = from_hex(value)?;
    let message = T::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
    let again = message.encode_to_vec();
    if again == bytes {
        Ok(message)
    } else {
        Err(format!("encodes to {}, recorded {}", hex::encode(again), hex::encode(bytes)))
    }
}

/// Bytes of a text in hex.
pub fn from_hex(value: &Value) -> Field<Vec<u8>> {
    hex::decode(value.as_str().ok_or("no text")?).map_err(|e| e.to_string())
}

/// A number, as such or as decimal text.
pub fn to_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Pairs of token and number.
pub fn pairs(value: &Value) -> Field<Vec<(u64, u64)>> {
    let list = value.as_array().ok_or("no list of pairs")?;
    list.iter().map(|p| to_number(&p[0]).zip(to_number(&p[1])).ok_or_else(|| "not a pair".to_owned())).collect()
}
