//! ELF headers of executables and the cache of the system's loader.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use rt_host::dynlib::{Cache, MAX_LIBRARIES, needs, resolve};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("written");
    if let Ok(needs) = needs(file.path()) {
        assert!(needs.libraries.len() <= MAX_LIBRARIES);
    }
    let cache = Cache::parse(data);
    let _ = resolve(file.path(), &cache, &[]);
});
