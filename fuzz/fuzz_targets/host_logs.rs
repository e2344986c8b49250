//! What runtimes print: cut into lines, read, and kept in a file that does not grow.
#![no_main]

use std::time::SystemTime;

use base_prims::Namespace;
use libfuzzer_sys::fuzz_target;
use rt_host::logs::{ComponentLog, Line, LineCutter, MAX_LINE_BYTES, MIN_MAX_FILE_BYTES, Source};
use wire_runtime::bundle::ComponentId;

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log");
    let log = ComponentLog::create(path.clone(), MIN_MAX_FILE_BYTES).expect("a log");
    let source = Source {
        runtime_id: Namespace::default(),
        runtime_name: "fuzz".into(),
        component: ComponentId::Ronl,
        provisioner: "sandbox".into(),
    };
    let (cut, output) = data.split_first().map_or((1, data), |(cut, rest)| (usize::from(*cut).max(1), rest));
    let mut cutter = LineCutter::default();
    for piece in output.chunks(cut) {
        cutter.push(piece, |line| {
            if let Some(line) = line {
                assert!(line.len() <= MAX_LINE_BYTES);
                log.write(&Line::parse(line), &source, SystemTime::UNIX_EPOCH);
            }
        });
        assert!(cutter.rest().is_none_or(|rest| rest.len() <= MAX_LINE_BYTES));
    }
    assert!(std::fs::metadata(&path).expect("there").len() <= MIN_MAX_FILE_BYTES);
});
