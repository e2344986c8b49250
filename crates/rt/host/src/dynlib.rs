//! Finds the shared libraries that an executable needs, without running it.
//!
//! Reads ELF headers and the cache of the system's loader. Files come from bundles, so nothing in them is trusted: sizes
//! are bounded and every offset is checked. Source: `go/common/dynlib`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// The cache of the system's loader.
pub const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Most bytes of the loader's cache.
const MAX_CACHE_BYTES: u64 = 64 << 20;
/// Most bytes of an executable's dynamic section.
const MAX_DYNAMIC_BYTES: u64 = 1 << 20;
/// Most bytes of a library's name.
const MAX_NAME_BYTES: usize = 4096;
/// Most libraries of an executable, with those that these need.
pub const MAX_LIBRARIES: usize = 1024;
/// Most program headers.
const MAX_HEADERS: u16 = 1024;

const CACHE_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_CACHE_MAGIC: &[u8] = b"ld.so-1.7.0\0";

/// Why libraries were not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not a well-formed ELF file for this machine.
    #[error("{} is not an executable for this machine: {reason}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A library is nowhere.
    #[error("library {name} (needed by {}) not found; install it, or use a statically linked executable", by.display())]
    NotFound {
        /// Its name.
        name: String,
        /// Who needs it.
        by: PathBuf,
    },
    /// More than [`MAX_LIBRARIES`].
    #[error("{} needs more than {MAX_LIBRARIES} libraries", path.display())]
    TooMany {
        /// The executable.
        path: PathBuf,
    },
}

/// What an ELF file says about its libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Names of the libraries.
    pub libraries: Vec<String>,
    /// Path of the loader; statically linked files have none.
    pub interpreter: Option<String>,
}

struct Reader<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Reader<'_> {
    fn bad(&self, reason: &'static str) -> Error {
        Error::Elf { path: self.path.into(), reason }
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(length).map_err(|_| self.bad("a part is too long"))?;
        let mut out = vec![0; length];
        self.file.read_exact_at(&mut out, offset).map_err(|_| self.bad("a part lies outside the file"))?;
        Ok(out)
    }

    fn name(&self, offset: u64) -> Result<String, Error> {
        let mut out = vec![0; MAX_NAME_BYTES];
        let count = self.file.read_at(&mut out, offset).map_err(|_| self.bad("a name lies outside the file"))?;
        let end = out.iter().take(count).position(|b| *b == 0).ok_or_else(|| self.bad("a name does not end"))?;
        out.truncate(end);
        String::from_utf8(out).map_err(|_| self.bad("a name is not UTF-8"))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b))
}

/// Reads what a file needs.
///
/// # Errors
/// If it is not a 64-bit little-endian ELF file, or malformed.
pub fn needs(path: &Path) -> Result<Needs, Error> {
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    const INTERPRETER: u32 = 3;
    const TAG_NEEDED: u64 = 1;
    const TAG_STRINGS: u64 = 5;

    let file = File::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let reader = Reader { file: &file, path };
    let head = reader.bytes(0, 64)?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Err(reader.bad("it is not a 64-bit little-endian ELF file"));
    }
    let (table, entry, count) = (u64_at(&head, 32), u16_at(&head, 54), u16_at(&head, 56));
    if entry < 56 || count > MAX_HEADERS {
        return Err(reader.bad("malformed program headers"));
    }
    let table = reader.bytes(table, u64::from(entry) * u64::from(count))?;
    let mut out = Needs::default();
    let (mut segments, mut dynamic) = (Vec::new(), None);
    for header in table.chunks_exact(usize::from(entry)) {
        let (offset, address, size) = (u64_at(header, 8), u64_at(header, 16), u64_at(header, 32));
        match u32_at(header, 0) {
            LOAD => segments.push((address, offset, size)),
            DYNAMIC => dynamic = Some((offset, size)),
            INTERPRETER => out.interpreter = Some(reader.name(offset)?),
            _ => {}
        }
    }
    let Some((offset, size)) = dynamic else {
        return Ok(out);
    };
    if size > MAX_DYNAMIC_BYTES {
        return Err(reader.bad("the dynamic section is too long"));
    }
    let section = reader.bytes(offset, size)?;
    let entries = || section.chunks_exact(16).map(|e| (u64_at(e, 0), u64_at(e, 8))).take_while(|(tag, _)| *tag != 0);
    let needed: Vec<u64> = entries().filter(|(tag, _)| *tag == TAG_NEEDED).map(|(_, value)| value).collect();
    if needed.is_empty() {
        return Ok(out);
    }
    if needed.len() > MAX_LIBRARIES {
        return Err(Error::TooMany { path: path.into() });
    }
    let address = entries()
        .find_map(|(tag, value)| (tag == TAG_STRINGS).then_some(value))
        .ok_or_else(|| reader.bad("it needs libraries but has no names"))?;
    let strings = segments
        .iter()
        .find_map(|(start, offset, size)| {
            let within = address.checked_sub(*start).filter(|within| within < size)?;
            offset.checked_add(within)
        })
        .ok_or_else(|| reader.bad("the names are in no segment"))?;
    for name in needed {
        let at = strings.checked_add(name).ok_or_else(|| reader.bad("a name lies outside the file"))?;
        out.libraries.push(reader.name(at)?);
    }
    Ok(out)
}

/// The loader's cache: where libraries are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    paths: BTreeMap<String, PathBuf>,
}

impl Cache {
    /// The system's cache; empty where there is none.
    ///
    /// # Errors
    /// If it is there but cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_CACHE_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Self::parse(&bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::Io { path: path.into(), source }),
        }
    }

    /// Reads a cache; what is malformed is left out. Libraries for other machines are left out too.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut out = Self::default();
        // Older caches begin with a table in the older format.
        let start = if bytes.starts_with(OLD_CACHE_MAGIC) {
            let count = usize::try_from(u32_at(bytes, OLD_CACHE_MAGIC.len())).unwrap_or(usize::MAX);
            let end = count.saturating_mul(12).saturating_add(OLD_CACHE_MAGIC.len() + 4);
            end.saturating_add(7) & !7
        } else {
            0
        };
        let Some(table) = bytes.get(start..).filter(|table| table.starts_with(CACHE_MAGIC)) else {
            return out;
        };
        let text = |at: u32| -> Option<&str> {
            let rest = table.get(usize::try_from(at).ok()?..)?;
            let end = rest.iter().position(|b| *b == 0)?;
            std::str::from_utf8(rest.get(..end)?).ok()
        };
        let count = usize::try_from(u32_at(table, 20)).unwrap_or(0);
        let entries = table.get(48..).unwrap_or_default().chunks_exact(24).take(count);
        let wanted: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };
        let mut best: BTreeMap<String, u64> = BTreeMap::new();
        for entry in entries {
            if u32_at(entry, 0) != wanted {
                continue;
            }
            let (Some(name), Some(path)) = (text(u32_at(entry, 4)), text(u32_at(entry, 8))) else {
                continue;
            };
            // The baseline variant of a library runs on every machine.
            let capabilities = u64_at(entry, 16);
            if best.get(name).is_none_or(|seen| capabilities < *seen) {
                best.insert(name.into(), capabilities);
                out.paths.insert(name.into(), path.into());
            }
        }
        out
    }

    /// Where a library is.
    pub fn get(&self, name: &str) -> Option<&Path> {
        self.paths.get(name).map(PathBuf::as_path)
    }
}

/// The libraries that an executable needs, directly or not: names and the files that they are.
///
/// They are looked for in the cache, then in the folders of `fallback`.
///
/// # Errors
/// If one is not found or not readable.
pub fn resolve(executable: &Path, cache: &Cache, fallback: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut found = BTreeMap::new();
    let mut checked = BTreeSet::new();
    let mut queue = VecDeque::from([executable.to_path_buf()]);
    while let Some(path) = queue.pop_front() {
        let needs = needs(&path)?;
        if let Some(interpreter) = needs.interpreter.as_deref().map(Path::new)
            && let Some(name) = interpreter.file_name().and_then(|name| name.to_str())
            && interpreter.exists()
        {
            found.entry(name.to_owned()).or_insert_with(|| interpreter.to_path_buf());
        }
        for name in needs.libraries {
            if name.contains('/') || found.contains_key(&name) {
                continue;
            }
            let in_fallback = || fallback.iter().map(|dir| dir.join(&name)).find(|path| path.is_file());
            let Some(library) = cache.get(&name).map(Path::to_path_buf).or_else(in_fallback) else {
                // The kernel provides it.
                if name.starts_with("linux-vdso") || name.starts_with("linux-gate") {
                    continue;
                }
                return Err(Error::NotFound { name, by: path });
            };
            if found.len() >= MAX_LIBRARIES {
                return Err(Error::TooMany { path: executable.into() });
            }
            if checked.insert(library.clone()) {
                queue.push_back(library.clone());
            }
            found.insert(name, library);
        }
    }
    let real = |path: PathBuf| path.canonicalize().map_err(|source| Error::Io { path, source });
    found.into_iter().map(|(name, path)| Ok((name, real(path)?))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn arbitrary_files_and_caches_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            words in prop::collection::vec((0usize..14, any::<u64>()), 0..6),
        ) {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("file");
            let mut elf = [b"\x7fELF\x02\x01".as_slice(), &bytes].concat();
            for (at, value) in words {
                if let Some(place) = elf.get_mut(at * 8..at * 8 + 8) {
                    place.copy_from_slice(&(value % 512).to_le_bytes());
                }
            }
            for content in [&bytes, &elf] {
                std::fs::write(&path, content).expect("writable");
                if let Ok(needs) = needs(&path) {
                    prop_assert!(needs.libraries.len() <= MAX_LIBRARIES);
                    prop_assert!(needs.libraries.iter().all(|name| name.len() < MAX_NAME_BYTES));
                }
            }
            let _ = Cache::parse(&bytes);
            let cache = Cache::parse(&[CACHE_MAGIC, &bytes].concat());
            prop_assert!(cache.paths.len() <= bytes.len() / 24);
            let _ = Cache::parse(&[OLD_CACHE_MAGIC, &bytes].concat());
        }
    }

    #[test]
    fn finds_the_libraries_of_this_test() {
        let cache = Cache::load(Path::new(LOADER_CACHE)).expect("readable");
        let me = std::env::current_exe().expect("a path");
        let found = resolve(&me, &cache, &[]).expect("resolves");
        assert!(found.keys().any(|name| name.starts_with("libc.so")), "{found:?}");
        assert!(found.keys().any(|name| name.starts_with("ld-linux")), "{found:?}");
        assert!(found.values().all(|path| path.is_absolute() && path.is_file()));
    }

    #[test]
    fn damaged_files_are_refused_without_panic() {
        let me = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("damaged");
        let head = me.get(..me.len().min(8192)).unwrap_or_default();
        for n in 0..head.len().min(1200) {
            let mut bytes = head.to_vec();
            if let Some(byte) = bytes.get_mut(n) {
                *byte = !*byte;
            }
            std::fs::write(&path, &bytes).expect("writable");
            let _ = needs(&path);
        }
        std::fs::write(&path, b"#!/bin/sh\n").expect("writable");
        assert!(matches!(needs(&path), Err(Error::Elf { .. })));
        assert!(matches!(needs(&dir.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn damaged_caches_are_read_as_far_as_they_go() {
        let Ok(bytes) = std::fs::read(LOADER_CACHE) else {
            dev_testkit::skip(1, "no loader cache on this machine");
            return;
        };
        let whole = Cache::parse(&bytes);
        assert!(!whole.paths.is_empty());
        for n in (0..bytes.len()).step_by(997) {
            let mut damaged = bytes.clone();
            damaged[n] = !damaged[n];
            damaged.truncate(bytes.len() - n / 2);
            let _ = Cache::parse(&damaged);
        }
        assert_eq!(Cache::parse(b"ld.so-1.7.0\0\xff\xff\xff\xff"), Cache::default());
    }
}
