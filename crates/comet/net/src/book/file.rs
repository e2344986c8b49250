//! The address book's file, in the reference's JSON format, so that either kind of node reads it.
//!
//! Reference: `cometbft:p2p/pex/file.go`, `known_address.go`.
//!
//! The placement in buckets is kept as saved; new entries are placed by our own hash, which the reference need not share.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Book, Known};
use crate::address::{NetAddress, parse_id, parse_ip};

/// Largest file read, in bytes; a full book takes some 12 MB.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// How the reference writes "never".
const NEVER: &str = "0001-01-01T00:00:00Z";
const BUCKET_NEW: u8 = 1;
const BUCKET_OLD: u8 = 2;

#[derive(Serialize, Deserialize)]
struct BookJson {
    key: String,
    addrs: Vec<EntryJson>,
}

#[derive(Serialize, Deserialize)]
struct AddressJson {
    id: String,
    ip: String,
    port: u16,
}

#[derive(Serialize, Deserialize)]
struct EntryJson {
    addr: AddressJson,
    src: AddressJson,
    buckets: Option<Vec<usize>>,
    attempts: i32,
    bucket_type: u8,
    last_attempt: String,
    last_success: String,
    last_ban_time: String,
}

impl From<&NetAddress> for AddressJson {
    fn from(address: &NetAddress) -> Self {
        Self { id: address.id.0.to_string(), ip: address.ip.to_string(), port: address.port }
    }
}

impl AddressJson {
    fn parse(&self) -> Option<NetAddress> {
        Some(NetAddress { id: parse_id(&self.id).ok()?, ip: parse_ip(&self.ip)?, port: self.port })
    }
}

fn write_time(at: Option<OffsetDateTime>) -> String {
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| NEVER.to_owned())
}

fn read_time(text: &str) -> Option<OffsetDateTime> {
    if text == NEVER { None } else { OffsetDateTime::parse(text, &Rfc3339).ok() }
}

impl From<&Known> for EntryJson {
    fn from(known: &Known) -> Self {
        Self {
            addr: AddressJson::from(&known.address),
            src: AddressJson::from(&known.source),
            buckets: Some(known.buckets.clone()),
            attempts: known.attempts,
            bucket_type: if known.old { BUCKET_OLD } else { BUCKET_NEW },
            last_attempt: write_time(Some(known.last_attempt)),
            last_success: write_time(known.last_success),
            last_ban_time: write_time(known.last_ban),
        }
    }
}

impl EntryJson {
    fn parse(&self) -> Option<Known> {
        let address = self.addr.parse()?;
        Some(Known {
            source: self.src.parse().unwrap_or_else(|| address.clone()),
            address,
            buckets: self.buckets.clone().unwrap_or_default(),
            attempts: self.attempts.max(0),
            old: self.bucket_type == BUCKET_OLD,
            last_attempt: read_time(&self.last_attempt).unwrap_or(OffsetDateTime::UNIX_EPOCH),
            last_success: read_time(&self.last_success),
            last_ban: read_time(&self.last_ban_time),
        })
    }
}

/// The book as JSON.
pub fn to_json(book: &Book) -> Vec<u8> {
    let json = BookJson { key: book.key.clone(), addrs: book.entries().map(EntryJson::from).collect() };
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
    json.serialize(&mut serializer).expect("strings and numbers always serialize, and a vector takes any bytes");
    out
}

/// Adds what the JSON holds to an empty book; entries that do not hold are left out. The number of entries taken.
pub fn from_json(book: &mut Book, json: &[u8]) -> Result<usize, serde_json::Error> {
    let json: BookJson = serde_json::from_slice(json)?;
    if !json.key.is_empty() && json.key.len() <= 64 {
        book.key = json.key;
    }
    json.addrs.iter().filter_map(EntryJson::parse).for_each(|known| book.restore(known));
    Ok(book.len())
}

/// Loads the book's file; the number of entries taken, 0 if there is no file.
pub fn load(book: &mut Book, path: &Path) -> io::Result<usize> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let mut json = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut json)?;
    from_json(book, &json).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Replaces the file by the JSON at once.
pub fn save(json: &[u8], path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(json)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
