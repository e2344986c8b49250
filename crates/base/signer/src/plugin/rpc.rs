//! Calls as Go's `net/rpc` makes them: a header and a value each way, in `encoding/gob`.

use std::io;

use super::gob::{Decoder, Encoder, Item, Kind, MAX_MESSAGE, Value};
use super::yamux::Stream;

const REQUEST: Kind = Kind::Struct("Request", &[("ServiceMethod", Kind::Text), ("Seq", Kind::Uint)]);
const RESPONSE: Kind =
    Kind::Struct("Response", &[("ServiceMethod", Kind::Text), ("Seq", Kind::Uint), ("Error", Kind::Text)]);
/// What stands where an answer would, after an error.
const EMPTY: Kind = Kind::Struct("", &[]);

/// A stream of calls.
pub(crate) struct Calls {
    stream: Stream,
    encoder: Encoder,
    decoder: Decoder,
    count: u64,
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Calls {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, encoder: Encoder::default(), decoder: Decoder::default(), count: 0 }
    }

    async fn message(&mut self) -> io::Result<Vec<u8>> {
        let mut first = [0];
        self.stream.read_exact(&mut first).await?;
        let mut length = u64::from(first[0]);
        if first[0] >= 0x80 {
            let mut rest = [0; 8];
            let count = usize::from(first[0].wrapping_neg());
            let rest = rest.get_mut(..count).ok_or_else(|| invalid("length of more than eight bytes"))?;
            self.stream.read_exact(rest).await?;
            length = rest.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_MESSAGE);
        let mut message = vec![0; length.ok_or_else(|| invalid("message is too long"))?];
        self.stream.read_exact(&mut message).await?;
        Ok(message)
    }

    /// The next value, after whatever describes its type.
    async fn value(&mut self) -> io::Result<Value> {
        loop {
            let message = self.message().await?;
            if let Some(value) = self.decoder.message(&message).map_err(invalid)? {
                return Ok(value);
            }
        }
    }

    /// Calls; the inner error is what the other side says.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        kind: Kind,
        argument: &Item<'_>,
    ) -> io::Result<Result<Value, String>> {
        let number = self.count;
        self.count += 1;
        let mut bytes = self.encoder.encode(REQUEST, &Item::Struct(vec![Item::Text(method), Item::Uint(number)]));
        bytes.extend(self.encoder.encode(kind, argument));
        self.stream.write_all(&bytes).await?;
        let head = self.value().await?;
        let answer = self.value().await?;
        if head.field("Seq").uint() != number {
            return Err(invalid("answer to another call"));
        }
        let error = head.field("Error").text();
        Ok(if error.is_empty() { Ok(answer) } else { Err(error.to_owned()) })
    }

    /// The next call: method, number, argument.
    pub(crate) async fn next(&mut self) -> io::Result<(String, u64, Value)> {
        let head = self.value().await?;
        let argument = self.value().await?;
        Ok((head.field("ServiceMethod").text().to_owned(), head.field("Seq").uint(), argument))
    }

    /// Answers a call.
    pub(crate) async fn answer(
        &mut self,
        method: &str,
        number: u64,
        answer: Result<(Kind, Item<'_>), String>,
    ) -> io::Result<()> {
        let error = answer.as_ref().err().map_or("", |error| if error.is_empty() { "failed" } else { error });
        let head = Item::Struct(vec![Item::Text(method), Item::Uint(number), Item::Text(error)]);
        let mut bytes = self.encoder.encode(RESPONSE, &head);
        let (kind, item) = answer.unwrap_or((EMPTY, Item::Struct(Vec::new())));
        bytes.extend(self.encoder.encode(kind, &item));
        self.stream.write_all(&bytes).await
    }
}
