//! Recorded Runtime Host Protocol traffic: `vectors/rhp/NAME.bin`.

use std::path::Path;

use crate::{Error, read};

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The host, to the runtime.
    Host,
    /// The runtime, to the host.
    Runtime,
}

/// One recorded frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Who sent it.
    pub direction: Direction,
    /// When, in Unix seconds.
    pub time_secs: f64,
    /// The frame's CBOR body, without its own 4-byte length.
    pub body: Vec<u8>,
}

/// Length of a record's header: direction, time as f64, body length as u32, both big-endian.
const HEADER_BYTES: usize = 1 + 8 + 4;

/// Reads one trace file.
///
/// # Errors
/// If the file cannot be read, a direction is unknown, or it ends within a record.
pub fn load(path: &Path) -> Result<Vec<Record>, Error> {
    parse(&read(path)?).map_err(|(index, problem)| Error::shape(path, format!("record {index}"), problem))
}

fn parse(mut bytes: &[u8]) -> Result<Vec<Record>, (usize, String)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let fail = |problem: String| (out.len(), problem);
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| fail(format!("{} bytes left, a header has {HEADER_BYTES}", bytes.len())))?;
        let [direction, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3] = *header;
        let direction = match direction {
            b'H' => Direction::Host,
            b'R' => Direction::Runtime,
            other => return Err(fail(format!("direction is 0x{other:02x}, neither H nor R"))),
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let (body, rest) =
            rest.split_at_checked(length).ok_or_else(|| fail(format!("{} bytes left of {length}", rest.len())))?;
        let time_secs = f64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        out.push(Record { direction, time_secs, body: body.to_vec() });
        bytes = rest;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn loads_the_recorded_traces() {
        for name in ["keymanager", "keyvalue-client", "keyvalue-compute"] {
            let records = load(&paths::vectors_dir().join("rhp").join(format!("{name}.bin"))).unwrap();
            assert!(records.iter().any(|r| r.direction == Direction::Host), "{name}");
            assert!(records.iter().any(|r| r.direction == Direction::Runtime), "{name}");
            // Every body is a CBOR map (the message envelope).
            assert!(records.iter().all(|r| r.body.first().is_some_and(|b| b >> 5 == 5)), "{name}");
        }
    }

    #[test]
    fn refuses_cut_and_foreign_records() {
        let mut record = vec![b'R'];
        record.extend_from_slice(&1.5f64.to_be_bytes());
        record.extend_from_slice(&2u32.to_be_bytes());
        record.extend_from_slice(&[0xa0, 0xa0]);
        let parsed = parse(&record).unwrap();
        assert_eq!(parsed, [Record { direction: Direction::Runtime, time_secs: 1.5, body: vec![0xa0, 0xa0] }]);
        for cut in 1..record.len() {
            assert!(parse(&record[..cut]).is_err(), "cut at {cut}");
        }
        record[0] = b'X';
        assert_eq!(parse(&record), Err((0, "direction is 0x58, neither H nor R".into())));
    }
}
